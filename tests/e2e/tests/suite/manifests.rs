//! The CRD: whatever could work on the peer (Azure/msi-acrpull) is accepted, and what never could is refused by name.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{Stack, Team};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use serde_json::{Value, json};

use crate::shared::beside_others;

/// What the peer left in a cluster, with its status and everything else that a backup brings back.
const PEER_LEFT: &str = include_str!("../fixtures/peer-left-v1beta2.yaml");

const IDENTITY: &str =
    "/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller";
const CLIENT: &str = "33333333-3333-3333-3333-000000000001";
const TENANT: &str = "22222222-2222-2222-2222-222222222222";

fn manifest(name: &str, acr: &Value, auth: &Value, account: &str) -> Value {
    json!({
        "apiVersion": "acrpull.microsoft.com/v1beta2",
        "kind": "AcrPullBinding",
        "metadata": {"name": name},
        "spec": {"acr": acr, "auth": auth, "serviceAccountName": account},
    })
}

fn acr() -> Value {
    json!({"environment": "PublicCloud", "server": "example.azurecr.io", "scope": "repository:team/web:pull"})
}

fn workload() -> Value {
    json!({"workloadIdentity": {"serviceAccountRef": "web"}})
}

fn airgapped(authority: &str) -> Value {
    json!({
        "environment": "AirgappedCloud", "server": "example.azurecr.airgap.example", "scope": "repository:web:pull",
        "cloudConfig": {"entraAuthorityHost": authority, "resourceManagerAudience": "https://management.airgap.example"},
    })
}

/// Changes one field of a value.
fn with(mut value: Value, field: &str, change: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.insert(field.to_owned(), change);
    }
    value
}

fn without(mut value: Value, field: &str) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.remove(field);
    }
    value
}

async fn create(team: &Team<'_>, stack: &Stack, manifest: Value) -> anyhow::Result<DynamicObject> {
    let resource = ApiResource::erase::<syncer::crd::AcrPullBinding>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(stack.client()?, team.namespace(), &resource);
    let object: DynamicObject = serde_json::from_value(manifest).context("the manifest has no metadata")?;
    // Strict, as kubectl asks for: an unknown field is an error and not a warning.
    let params = PostParams { dry_run: true, ..PostParams::default() };
    Ok(tokio::time::timeout(Duration::from_secs(10), api.create(&params, &object)).await??)
}

#[test]
fn manifest_that_could_work_on_the_peer_is_accepted() -> anyhow::Result<()> {
    let long = "n".repeat(253);
    let deep = format!("{}.example.azurecr.io", "a".repeat(63));
    let manifests = [
        manifest("plain", &acr(), &workload(), "web"),
        manifest("default-account", &acr(), &workload(), "default"),
        manifest("no-environment", &without(acr(), "environment"), &workload(), "web"),
        manifest("us", &json!({"environment": "USGovernmentCloud", "server": "example.azurecr.us", "scope": "repository:a:pull"}), &workload(), "web"),
        manifest("china", &json!({"environment": "ChinaCloud", "server": "example.azurecr.cn", "scope": "repository:a:pull"}), &workload(), "web"),
        manifest("airgapped", &airgapped("https://login.airgap.example"), &workload(), "web"),
        manifest("airgapped-slash", &airgapped("https://login.airgap.example/"), &workload(), "web"),
        manifest("client-id", &acr(), &json!({"managedIdentity": {"clientID": CLIENT}}), "web"),
        manifest("client-id-upper", &acr(), &json!({"managedIdentity": {"clientID": "ABCDEF00-3333-3333-3333-00000000000A"}}), "web"),
        manifest("resource-id", &acr(), &json!({"managedIdentity": {"resourceID": IDENTITY}}), "web"),
        manifest("resource-id-case", &acr(), &json!({"managedIdentity": {"resourceID": IDENTITY.replace("resourceGroups", "resourcegroups").replace("Microsoft.ManagedIdentity", "microsoft.managedidentity")}}), "web"),
        manifest("explicit-identity", &acr(), &json!({"workloadIdentity": {"serviceAccountRef": "web", "clientID": CLIENT, "tenantID": TENANT}}), "web"),
        manifest("other-account", &acr(), &json!({"workloadIdentity": {"serviceAccountRef": "puller"}}), "web"),
        manifest("upper-case-host", &with(acr(), "server", json!("Example.AzureCR.io")), &workload(), "web"),
        manifest("regional-host", &with(acr(), "server", json!("example.westeurope.geo.azurecr.io")), &workload(), "web"),
        manifest("long-host", &with(acr(), "server", json!(deep)), &workload(), "web"),
        manifest("host-with-a-hash", &with(acr(), "server", json!("example-b7d3fzhyfkabcdez.azurecr.io")), &workload(), "web"),
        manifest("many-scopes", &with(acr(), "scope", json!("repository:a/b.c_d-e:pull repository:f:pull,metadata_read")), &workload(), "web"),
        manifest("scope-with-blanks", &with(acr(), "scope", json!("  repository:a:pull   repository:b:pull ")), &workload(), "web"),
        manifest("dotted.name-1", &acr(), &workload(), "dotted.account-1"),
        manifest("1", &acr(), &workload(), "1"),
        manifest(&long, &acr(), &workload(), &long),
    ];
    beside_others(async |stack| {
        let team = stack.team("accepted").await?;
        for manifest in manifests {
            let name = manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            create(&team, stack, manifest).await.with_context(|| name)?;
        }
        Ok(())
    })
}

#[test]
fn manifest_that_never_could_work_is_refused_by_the_field() -> anyhow::Result<()> {
    let identity = |value: Value| json!({ "managedIdentity": value });
    let manifests = [
        (manifest("a", &with(acr(), "server", json!("https://example.azurecr.io")), &workload(), "web"), "spec.acr.server"),
        (manifest("a", &with(acr(), "server", json!("example.azurecr.io/team")), &workload(), "web"), "spec.acr.server"),
        (manifest("a", &with(acr(), "server", json!("")), &workload(), "web"), "spec.acr.server"),
        (manifest("a", &without(acr(), "server"), &workload(), "web"), "spec.acr.server"),
        (manifest("a", &with(acr(), "scope", json!("")), &workload(), "web"), "spec.acr.scope"),
        (manifest("a", &with(acr(), "scope", json!("repository:team/*:pull")), &workload(), "web"), "spec.acr.scope"),
        (manifest("a", &without(acr(), "scope"), &workload(), "web"), "spec.acr.scope"),
        (manifest("a", &with(acr(), "environment", json!("GermanCloud")), &workload(), "web"), "spec.acr.environment"),
        (manifest("a", &with(acr(), "environment", json!("AirgappedCloud")), &workload(), "web"), "spec.acr.environment"),
        (manifest("a", &with(airgapped("https://a.example"), "environment", json!("PublicCloud")), &workload(), "web"), "spec.acr.cloudConfig"),
        (manifest("a", &airgapped("http://login.airgap.example"), &workload(), "web"), "spec.acr.cloudConfig.entraAuthorityHost"),
        (manifest("a", &acr(), &json!({}), "web"), "spec.auth"),
        (manifest("a", &acr(), &json!({"workloadIdentity": {"serviceAccountRef": "web"}, "managedIdentity": {"clientID": CLIENT}}), "web"), "spec.auth"),
        (manifest("a", &acr(), &identity(json!({})), "web"), "spec.auth.managedIdentity"),
        (manifest("a", &acr(), &identity(json!({"clientID": CLIENT, "resourceID": IDENTITY})), "web"), "spec.auth.managedIdentity"),
        (manifest("a", &acr(), &identity(json!({"clientID": "puller"})), "web"), "spec.auth.managedIdentity.clientID"),
        (manifest("a", &acr(), &identity(json!({"resourceID": "/subscriptions/x"})), "web"), "spec.auth.managedIdentity.resourceID"),
        (manifest("a", &acr(), &json!({"workloadIdentity": {}}), "web"), "spec.auth.workloadIdentity.serviceAccountRef"),
        (manifest("a", &acr(), &json!({"workloadIdentity": {"serviceAccountRef": "web", "clientID": CLIENT}}), "web"), "spec.auth.workloadIdentity"),
        (manifest("a", &acr(), &json!({"workloadIdentity": {"serviceAccountRef": "web", "clientID": CLIENT, "tenantID": "a b"}}), "web"), "spec.auth.workloadIdentity.tenantID"),
        (manifest("a", &acr(), &workload(), ""), "spec.serviceAccountName"),
        (manifest("a", &acr(), &workload(), "Web"), "spec.serviceAccountName"),
    ];
    beside_others(async |stack| {
        let team = stack.team("refused").await?;
        for (manifest, field) in manifests {
            let spec = manifest["spec"].to_string();
            let refused = create(&team, stack, manifest).await.err().with_context(|| format!("accepted: {spec}"))?;
            let message = format!("{refused:#}");
            assert!(message.contains(field) && !message.contains("ValidatingAdmissionPolicy"), "{spec}: {message}");
        }
        Ok(())
    })
}

#[test]
fn manifest_of_each_binding_that_the_peer_left_is_accepted() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("peer-left").await?;
        let documents = PEER_LEFT.split("\n---\n");
        for document in documents {
            let mut object: Value = serde_saphyr::from_str(document)?;
            let metadata = object["metadata"].as_object_mut().context("no metadata")?;
            // What an API server sets by itself and does not take.
            for field in ["namespace", "resourceVersion", "uid", "managedFields", "creationTimestamp"] {
                metadata.remove(field);
            }
            let name = metadata["name"].to_string();
            create(&team, stack, object).await.with_context(|| name)?;
        }
        Ok(())
    })
}
