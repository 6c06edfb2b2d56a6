//! A binding that the CRD of Azure/msi-acrpull took and ours would refuse: it was there before, so it can be written still.

use anyhow::Context as _;
use e2e::{Stack, Team, wait_for};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use syncer::binding::ApiVersion;

use super::{ACCOUNT, SCOPE, Side};
use crate::shared::{EITHER_API, alone};
use crate::side::PATIENCE;

const PEERS_FINALIZER: &str = "msi-acrpull.microsoft.com";

/// Takes out what the peer's schema has not: rules in CEL.
fn without_rules(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(without_rules);
        }
        Value::Array(all) => all.iter_mut().for_each(without_rules),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn binding_of_the_peers_time_that_our_schema_refuses_is_told_handed_over_and_deleted() -> anyhow::Result<()> {
    alone(async |stack| {
        for api in ApiVersion::ALL {
            let team = stack.team(EITHER_API.prefix).await?;
            team.create_account(ACCOUNT, &[], &[]).await?;
            let side = Side::new(&team, api);
            ratcheted(stack, &team, &side)
                .await
                .with_context(|| api.as_str())?;
        }
        Ok(())
    })
}

async fn ratcheted(stack: &Stack, team: &Team<'_>, side: &Side<'_>) -> anyhow::Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(team.api::<Secret>().into_client());
    let name = format!("acrpullbindings.{}", side.api.group());
    let ours = serde_json::to_value(crds.get(&name).await?.spec.versions)?;
    let install = async |versions: &Value| {
        let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
        crds.patch(&name, &PatchParams::default(), &patch).await
    };
    let mut peers = ours.clone();
    without_rules(&mut peers);
    // It comes later, as in a migration.
    stack.syncer().stop().await;
    install(&peers).await?;
    let left = leave(side).await;
    install(&ours).await?;
    let is_ours = wait_for("our schema is in effect", PATIENCE, async || {
        let refused = side.create("another", &invalid(side)).await.err();
        Ok(refused.is_some_and(|error| format!("{error:#}").contains("must be a GUID")))
    })
    .await;
    stack.syncer().start().await?;
    left?;
    is_ours?;
    taken_over(stack, team, side).await
}

fn invalid(side: &Side<'_>) -> Value {
    let mut spec = side.spec(ACCOUNT, SCOPE);
    // The peer writes empty strings into bindings of v1beta1 itself, so there they mean a default.
    let (field, wrong) = match side.api {
        ApiVersion::V1Beta2 => ("/auth/managedIdentity/clientID", ""),
        ApiVersion::V1Beta1 => ("/managedIdentityClientID", "puller"),
    };
    if let Some(client_id) = spec.pointer_mut(field) {
        *client_id = json!(wrong);
    }
    spec
}

async fn leave(side: &Side<'_>) -> anyhow::Result<()> {
    wait_for("the peer's schema is in effect", PATIENCE, async || {
        Ok(side.create("one", &invalid(side)).await.is_ok())
    })
    .await?;
    side.patch("one", &json!({"metadata": {"finalizers": [PEERS_FINALIZER]}}))
        .await
}

async fn taken_over(stack: &Stack, team: &Team<'_>, side: &Side<'_>) -> anyhow::Result<()> {
    let status = side.refused("one", "Ready", "InvalidSpec").await?;
    let error = status.error.context("it says what is wrong")?;
    assert!(error.to_lowercase().contains("clientid"), "{error}");
    wait_for("the finalizer is removed", PATIENCE, async || {
        Ok(side.get("one").await?.0.finalizers().is_empty())
    })
    .await?;
    assert!(
        stack.syncer().metrics().await.is_ok(),
        "the syncer goes on with the others"
    );
    side.delete("one").await?;
    wait_for("the binding is gone", PATIENCE, async || {
        Ok(side.get("one").await.is_err())
    })
    .await?;
    assert!(
        team.api::<Secret>()
            .get_opt(&side.secret_name("one"))
            .await?
            .is_none()
    );
    Ok(())
}
