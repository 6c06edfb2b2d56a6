//! Which ServiceAccount says who asks, and what it has to say.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::{Stack, binding};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use syncer::binding::ApiVersion;
use tokio::time::Instant;

use crate::shared::beside_others;
use crate::side::{ACCOUNT, OWN, SCOPE, Side};

const CLIENT_ID: &str = "azure.workload.identity/client-id";
const TENANT_ID: &str = "azure.workload.identity/tenant-id";
/// A change is acted on within this.
const SOON: Duration = Duration::from_secs(5);

/// The subjects of a namespace whose tokens came to Entra.
async fn subjects(stack: &Stack, namespace: &str) -> anyhow::Result<Vec<String>> {
    let mut subjects = Vec::new();
    for assertion in stack.azure().assertions().await? {
        let payload = assertion.split('.').nth(1).context("an assertion is no JWT")?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        if subject.starts_with(&format!("system:serviceaccount:{namespace}:")) {
            subjects.push(subject.to_owned());
        }
    }
    Ok(subjects)
}

#[test]
fn b9_identity_is_that_of_the_account_that_the_reference_names() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("reference").await?;
        team.federated_account("puller").await?;
        team.create_account("app", &[OWN], &[]).await?;
        let mut binding = binding::workload_identity("one", "puller", team.registry(), SCOPE);
        "app".clone_into(&mut binding.spec.service_account_name);
        team.create(&binding).await?;
        team.ready("one").await?;
        assert_eq!(team.links("app").await?, [OWN, "acr-pull-one"]);
        assert!(team.links("puller").await?.is_empty());
        let puller = format!("system:serviceaccount:{}:puller", team.namespace());
        assert_eq!(subjects(stack, team.namespace()).await?, [puller]);
        Ok(())
    })
}

#[test]
fn b13_account_that_is_annotated_later_needs_no_tenant_and_nobody_touches_the_binding() -> anyhow::Result<()>
{
    beside_others(async |stack| {
        let team = stack.team("annotated").await?;
        let side = Side::new(&team, ApiVersion::V1Beta2);
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let (azure, issuer) = (stack.azure(), stack.plane().issuer());
        let applications = [
            azure.add_application(issuer, team.namespace(), ACCOUNT).await?,
            azure.add_application(issuer, team.namespace(), ACCOUNT).await?,
        ];
        for application in &applications {
            azure.grant_pull(team.registry(), &application.object_id).await?;
        }
        let annotate = async |annotations: Value| {
            let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
            let accounts = team.api::<ServiceAccount>();
            accounts.patch(ACCOUNT, &PatchParams::default(), &patch).await?;
            anyhow::Ok(Instant::now())
        };
        let binding = binding::workload_identity("one", ACCOUNT, team.registry(), SCOPE);
        let created = team.create(&binding).await?;
        side.refused("one", "CredentialIssued", "IdentityAnnotationMissing")
            .await?;

        let annotated = annotate(json!({CLIENT_ID: applications[0].client_id})).await?;
        side.ready("one").await?;
        println!("Ready {:?} after the annotation", annotated.elapsed());
        assert!(annotated.elapsed() <= SOON, "{:?}", annotated.elapsed());
        let first = side.secret("one").await?;

        // The same identity, and its tenant by name: not the same inputs, so it is asked for.
        annotate(json!({TENANT_ID: e2e::TENANT})).await?;
        side.wait_secret("one", "was asked for in that tenant", |secret| {
            secret.annotation("acrpull.microsoft.com/inputs")
                != first.annotation("acrpull.microsoft.com/inputs")
        })
        .await?;

        let annotated = annotate(json!({CLIENT_ID: applications[1].client_id})).await?;
        let second = side
            .wait_secret("one", "is of the other identity", |secret| {
                secret.docker_config != first.docker_config
            })
            .await?;
        println!("another identity {:?} after its annotation", annotated.elapsed());
        assert!(annotated.elapsed() <= SOON, "{:?}", annotated.elapsed());
        assert_eq!(second.version().1, first.version().1, "the Secret was replaced");
        let (binding, _status) = side.get("one").await?;
        assert_eq!(binding.metadata.generation, created.metadata.generation);
        Ok(())
    })
}
