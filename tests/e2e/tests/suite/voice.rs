//! What the application team sees: conditions and events by the tools that it has, and a binding that this version does
//! not understand.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{Stack, Team, binding, condition, wait_for};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use syncer::binding::{ApiVersion, Binding};
use syncer::status;

use crate::shared::{alone, beside_others};

const SCOPE: &str = "repository:team/web:pull";
const PATIENCE: Duration = Duration::from_secs(60);
const BINDING: &str = "acrpullbindings.acrpull.microsoft.com/web";

#[test]
fn b30_binding_is_waited_for_and_described_by_kubectl() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("voice").await?;
        team.federated_account("web").await?;
        let created = team
            .create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        let status = created.status.context("it begins with a status")?;
        assert_eq!(
            status.observed_generation,
            Some(-1),
            "nobody takes a binding that was not looked at for one that is as it should be"
        );
        kubectl_wait(stack, &team).await?;

        // Another spec: it is not Ready before that was looked at.
        team.patch(
            "web",
            &json!({"spec": {"acr": {"scope": "repository:team/api:pull"}}}),
        )
        .await?;
        kubectl_wait(stack, &team).await?;
        let ready = team.api::<syncer::crd::AcrPullBinding>().get("web").await?;
        let generation = ready.metadata.generation;
        let status = ready.status.clone().context("it has a status")?;
        assert_eq!(status.observed_generation, generation);
        for kind in [
            "Ready",
            "CredentialIssued",
            "SecretSynced",
            "ServiceAccountLinked",
        ] {
            let one = condition(&ready, kind).with_context(|| format!("no condition {kind}"))?;
            assert_eq!(
                (one.status.as_str(), one.observed_generation),
                ("True", generation)
            );
        }
        for kind in ["Reconciling", "Stalled"] {
            assert!(
                condition(&ready, kind).is_none(),
                "{kind} is there only while it is True"
            );
        }

        wait_for("the birth is told", PATIENCE, async || {
            Ok(!events(&team).await?.is_empty())
        })
        .await?;
        let events = events(&team).await?;
        let told: Vec<_> = events
            .iter()
            .filter_map(|event| event.reason.as_deref())
            .collect();
        assert_eq!(
            told,
            ["CredentialIssued"],
            "one event for a birth, none for a refresh"
        );
        assert!(events.iter().all(|event| {
            event
                .reporting_instance
                .as_ref()
                .is_some_and(|one| !one.is_empty())
        }));
        let described = stack
            .plane()
            .kubectl(&["-n", team.namespace(), "describe", BINDING])
            .await?;
        for words in [
            "CredentialIssued",
            "acrpull.microsoft.com/syncer",
            "ServiceAccount web lists acr-pull-web",
        ] {
            assert!(described.contains(words), "{words} is missing in\n{described}");
        }
        Ok(())
    })
}

#[test]
fn b30_link_that_moves_is_told_on_the_binding() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("voice-moved").await?;
        team.federated_account("web").await?;
        team.create_account("green", &[], &[]).await?;
        team.create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        team.ready("web").await?;
        team.patch("web", &json!({"spec": {"serviceAccountName": "green"}}))
            .await?;
        wait_for("the move is told", PATIENCE, async || {
            Ok(events(&team).await?.iter().any(|event| {
                event.reason.as_deref() == Some("ServiceAccountUnlinked")
                    && event.note.as_deref() == Some("ServiceAccount web lists acr-pull-web no longer")
            }))
        })
        .await
    })
}

/// A newer CRD than the syncer: bindings may say what it does not know.
#[test]
fn b30_binding_that_does_not_decode_is_told_and_keeps_what_it_has() -> anyhow::Result<()> {
    alone(async |stack| {
        let team = stack.team("voice-newer").await?;
        team.federated_account("web").await?;
        team.create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        team.ready("web").await?;
        let crds: Api<CustomResourceDefinition> = Api::all(team.api::<Secret>().into_client());
        let name = format!("acrpullbindings.{}", ApiVersion::V1Beta2.group());
        let ours = crds.get(&name).await?.spec.versions;
        let mut newer = serde_json::to_value(&ours)?;
        let clouds = newer
            .pointer_mut(
                "/0/schema/openAPIV3Schema/properties/spec/properties/acr/properties/environment/enum",
            )
            .and_then(Value::as_array_mut)
            .context("the clouds are an enum")?;
        clouds.push(serde_json::to_value(JSON(json!("MoonCloud")))?);
        let params = PatchParams::default();
        let patch = Patch::Merge(json!({"spec": {"versions": newer}}));
        crds.patch(&name, &params, &patch).await?;
        let played = unknown_cloud(&team).await;
        let patch = Patch::Merge(json!({"spec": {"versions": ours}}));
        crds.patch(&name, &params, &patch).await?;
        played
    })
}

async fn unknown_cloud(team: &Team<'_>) -> anyhow::Result<()> {
    let before = team.secret("web").await?.version();
    let kind = ApiResource::erase::<Binding>(&ApiVersion::V1Beta2);
    let client = team.api::<Secret>().into_client();
    let bindings: Api<DynamicObject> = Api::namespaced_with(client, team.namespace(), &kind);
    let cloud = |name| Patch::Merge(json!({"spec": {"acr": {"environment": name}}}));
    wait_for("the newer schema is in effect", PATIENCE, async || {
        let written = bindings
            .patch("web", &PatchParams::default(), &cloud("MoonCloud"))
            .await;
        Ok(written.is_ok())
    })
    .await?;
    wait_for("the status says that it does not decode", PATIENCE, async || {
        let mut object = bindings.get("web").await?;
        let generation = object.metadata.generation;
        let status = status::of(&mut object);
        let is = |kind: &str, value: &str| {
            status
                .conditions
                .iter()
                .any(|one| one.type_ == kind && one.status == value && one.reason == "InvalidSpec")
        };
        Ok(is("Ready", "False")
            && is("Stalled", "True")
            && status.observed_generation == generation
            && status.error.is_some_and(|error| error.contains("MoonCloud")))
    })
    .await?;
    assert_eq!(team.secret("web").await?.version(), before, "what it has stays");
    assert_eq!(team.links("web").await?, ["acr-pull-web"]);
    wait_for("an event says it", PATIENCE, async || {
        let events = events(team).await?;
        let told = events
            .iter()
            .filter(|event| event.reason.as_deref() == Some("InvalidSpec"));
        Ok(told.count() == 1)
    })
    .await?;
    bindings
        .patch("web", &PatchParams::default(), &cloud("PublicCloud"))
        .await?;
    team.ready("web").await?;
    Ok(())
}

async fn kubectl_wait(stack: &Stack, team: &Team<'_>) -> anyhow::Result<()> {
    stack
        .plane()
        .kubectl(&[
            "-n",
            team.namespace(),
            "wait",
            "--for=condition=Ready",
            "--timeout=60s",
            BINDING,
        ])
        .await?;
    Ok(())
}

/// The events on the team's bindings.
async fn events(team: &Team<'_>) -> anyhow::Result<Vec<Event>> {
    let events = team.api::<Event>().list(&ListParams::default()).await?;
    let about = events.items.into_iter().filter(|event| {
        let regarding = event.regarding.as_ref();
        regarding.is_some_and(|regarding| regarding.kind.as_deref() == Some("AcrPullBinding"))
    });
    Ok(about.collect())
}
