//! Which CRDs are installed: one of them, or older ones of Azure/msi-acrpull that keep three fields of the status.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{Stack, Team, wait_for};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use serde_json::json;
use syncer::binding::ApiVersion;

use super::{ACCOUNT, SCOPE, Side};
use crate::shared::{EITHER_API, alone};

/// An API that is not there is looked for at least this often, and a schema takes effect within seconds.
const PATIENCE: Duration = Duration::from_secs(60);

fn crds(team: &Team<'_>) -> Api<CustomResourceDefinition> {
    Api::all(team.api::<Secret>().into_client())
}

fn crd_name(api: ApiVersion) -> String {
    format!("acrpullbindings.{}", api.group())
}

/// Creates bindings until one is taken: a schema that was just installed or changed is not in effect at once.
async fn create_when_served(side: &Side<'_>, name: &str) -> anyhow::Result<()> {
    let spec = side.spec(ACCOUNT, SCOPE);
    wait_for("the API is served", PATIENCE, async || {
        Ok(side.create(name, &spec).await.is_ok())
    })
    .await
}

#[test]
fn b29_api_that_is_not_installed_holds_up_nothing_of_the_other() -> anyhow::Result<()> {
    alone(async |stack| {
        for absent in ApiVersion::ALL {
            without(stack, absent)
                .await
                .with_context(|| format!("without {}", absent.as_str()))?;
        }
        // A garbage collector that has not heard of a kind leaves what it owns.
        stack.plane().restart_controller_manager().await
    })
}

async fn without(stack: &Stack, absent: ApiVersion) -> anyhow::Result<()> {
    let team = stack.team(EITHER_API.prefix).await?;
    team.create_account(ACCOUNT, &[], &[]).await?;
    let crds = crds(&team);
    let name = crd_name(absent);
    let mut crd = crds.get(&name).await?;
    crds.delete(&name, &DeleteParams::default()).await?;
    wait_for("the CRD is gone", PATIENCE, async || {
        Ok(crds.get_opt(&name).await?.is_none())
    })
    .await?;

    let present = ApiVersion::ALL.into_iter().find(|api| *api != absent);
    let present = Side::new(&team, present.context("there are two APIs")?);
    present.create("before", &present.spec(ACCOUNT, SCOPE)).await?;
    present.ready("before").await?;
    // A process that starts like this is ready as well.
    stack.syncer().stop().await;
    stack.syncer().start().await?;
    present.create("after", &present.spec(ACCOUNT, SCOPE)).await?;
    present.ready("after").await?;
    assert!(present.secret("before").await.is_ok());

    crd.metadata = ObjectMeta {
        resource_version: None,
        uid: None,
        creation_timestamp: None,
        managed_fields: None,
        deletion_timestamp: None,
        finalizers: None,
        ..crd.metadata
    };
    crd.status = None;
    crds.create(&PostParams::default(), &crd).await?;
    let late = Side::new(&team, absent);
    create_when_served(&late, "late").await?;
    wait_for("the API is found", PATIENCE, async || {
        Ok(late.get("late").await?.1.observed_generation != Some(-1))
    })
    .await?;
    late.ready("late").await?;
    Ok(())
}

#[test]
fn status_on_the_peers_crd_is_as_much_as_it_keeps_and_is_not_told_again_and_again() -> anyhow::Result<()> {
    alone(async |stack| {
        for api in ApiVersion::ALL {
            let team = stack.team(EITHER_API.prefix).await?;
            team.create_account(ACCOUNT, &[], &[]).await?;
            let (side, crds, name) = (Side::new(&team, api), crds(&team), crd_name(api));
            side.create("probe", &side.spec(ACCOUNT, SCOPE)).await?;
            let ours = crds.get(&name).await?.spec.versions;
            let params = PatchParams::default();
            let install = async |versions: &[CustomResourceDefinitionVersion]| {
                let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
                crds.patch(&name, &params, &patch).await
            };
            install(&older(&ours)).await?;
            let played = on_an_older_crd(&side).await;
            install(&ours).await?;
            played.with_context(|| api.as_str())?;

            // With the right schema the next write makes the status whole again.
            wait_for("the status is kept", PATIENCE, async || {
                side.keeps_conditions("probe").await
            })
            .await?;
            side.request_refresh("one", "whole").await?;
            side.ready("one").await?;
        }
        Ok(())
    })
}

/// The schema of the peer's CRD: three fields of the status.
fn older(versions: &[CustomResourceDefinitionVersion]) -> Vec<CustomResourceDefinitionVersion> {
    let mut versions = versions.to_vec();
    for version in &mut versions {
        let schema = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut());
        let status = schema
            .and_then(|schema| schema.properties.as_mut())
            .and_then(|properties| properties.get_mut("status"));
        let Some(status) = status else { continue };
        status.default = None;
        if let Some(fields) = &mut status.properties {
            fields.retain(|name, _schema| {
                ["lastTokenRefreshTime", "tokenExpirationTime", "error"].contains(&name.as_str())
            });
        }
    }
    versions
}

async fn on_an_older_crd(side: &Side<'_>) -> anyhow::Result<()> {
    wait_for("the older schema is in effect", PATIENCE, async || {
        Ok(!side.keeps_conditions("probe").await?)
    })
    .await?;
    side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
    wait_for("the status has what is kept", PATIENCE, async || {
        Ok(side.get("one").await?.1.token_expiration_time.is_some())
    })
    .await?;
    side.secret("one").await?;
    let told = events(side, "one").await?;
    for request in ["first", "second", "third"] {
        side.request_refresh("one", request).await?;
        side.wait_secret("one", "answers the request", |secret| {
            secret.annotation("acrpull.microsoft.com/refresh-requested") == Some(request)
        })
        .await?;
    }
    // What each pass told again would be published by now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(events(side, "one").await?, told);
    let (_binding, status) = side.get("one").await?;
    assert!(
        status.conditions.is_empty() && status.error.is_none(),
        "{status:?}"
    );
    Ok(())
}

/// How often each event was told.
async fn events(side: &Side<'_>, binding: &str) -> anyhow::Result<Vec<(Option<String>, i32)>> {
    let events = side.team.api::<Event>().list(&ListParams::default()).await?;
    let about = events.items.into_iter().filter(|event| {
        let regarding = event.regarding.as_ref();
        regarding.is_some_and(|regarding| regarding.name.as_deref() == Some(binding))
    });
    let mut told: Vec<_> = about
        .map(|event| (event.reason, event.series.map_or(1, |series| series.count)))
        .collect();
    told.sort();
    Ok(told)
}
