//! A syncer with fewer rights than the whole cluster: in some namespaces only, and without reading Secrets. Installed from
//! the chart beside the one of the stack, which is stopped meanwhile: both would work on the same bindings.

mod narrow;
mod rights;

use std::time::Duration;

use anyhow::ensure;
use azure_simulator::Service;
use e2e::{NAMESPACE, Team, binding, condition, poll, wait_for};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use syncer::crd::AcrPullBinding;

use self::narrow::{ACCOUNT, with_narrow_syncer};
use crate::shared::alone;

const SCOPE: &str = "repository:team/web:pull";
/// For what takes a pass or two.
const PATIENCE: Duration = Duration::from_secs(30);

fn bound(name: &str, team: &Team<'_>) -> AcrPullBinding {
    binding::workload_identity(name, "web", team.registry(), SCOPE)
}

#[test]
fn scope_syncer_of_some_namespaces_needs_roles_alone_and_sees_nothing_else() -> anyhow::Result<()> {
    alone(async |stack| {
        let [one, two, other] = [
            stack.team("scope-one").await?,
            stack.team("scope-two").await?,
            stack.team("scope-other").await?,
        ];
        for team in [&one, &two, &other] {
            team.federated_account("web").await?;
            team.create(&bound("before", team)).await?;
        }
        // Nobody works on these but the syncer of the stack, which has to be done.
        for team in [&one, &two, &other] {
            team.ready("before").await?;
        }
        let values = json!({"namespaces": [one.namespace(), two.namespace()]});
        with_narrow_syncer(stack, "syncer-of-some", &values, async |_syncer| {
            for team in [&one, &two, &other] {
                team.create(&bound("web", team)).await?;
            }
            one.ready("web").await?;
            two.ready("web").await?;
            // Both namespaces fill one store: what goes in one leaves the other alone.
            one.delete("before").await?;
            one.wait_links("web", &["acr-pull-web"]).await?;
            two.wait_links("web", &["acr-pull-before", "acr-pull-web"])
                .await?;

            let client = stack
                .plane()
                .client_for_service_account(NAMESPACE, ACCOUNT)
                .await?;
            for refused in [
                Api::<AcrPullBinding>::all(client.clone()),
                Api::namespaced(client.clone(), other.namespace()),
            ] {
                assert_eq!(refusal(refused.list(&ListParams::default()).await), Some(403));
            }
            let unseen = other.api::<AcrPullBinding>().get("web").await?;
            // As the API server made it, with the default that says so.
            let generation = unseen.status.and_then(|status| status.observed_generation);
            ensure!(
                generation == Some(-1),
                "its status is of generation {generation:?}"
            );
            ensure!(other.pull_secret("web").await?.is_none(), "it has a Secret");
            Ok(())
        })
        .await?;
        // It was left to the other one.
        other.ready("web").await?;
        Ok(())
    })
}

#[test]
fn scope_write_only_syncer_keeps_secrets_that_it_never_reads() -> anyhow::Result<()> {
    alone(async |stack| {
        let team = stack.team("scope-write").await?;
        let application = team.federated_account("web").await?;
        let values = json!({"namespaces": [team.namespace()], "secretsAccess": "write-only"});
        with_narrow_syncer(stack, "syncer-that-writes", &values, async |syncer| {
            let client = stack
                .plane()
                .client_for_service_account(NAMESPACE, ACCOUNT)
                .await?;
            reads_no_secret(client.clone(), &team).await?;
            team.create(&bound("web", &team)).await?;
            team.ready("web").await?;
            looks_at_its_own_secret(client, &team).await?;
            team.wait_links("web", &["acr-pull-web"]).await?;

            // After a restart the status tells what the Secret holds: nobody is asked, nothing is written.
            let (secret, binding) = (team.secret("web").await?, team.ready("web").await?);
            let calls = async || {
                anyhow::Ok(
                    stack
                        .azure()
                        .calls()
                        .await?
                        .client_id(&application.client_id)
                        .count(),
                )
            };
            let asked = calls().await?;
            syncer.restart().await?;
            team.create(&bound("later", &team)).await?;
            team.ready("later").await?;
            assert_eq!(
                team.secret("web").await?.version(),
                secret.version(),
                "the Secret was written"
            );
            let after = team.ready("web").await?;
            assert_eq!(
                after.metadata.resource_version, binding.metadata.resource_version,
                "the status was written"
            );
            let entra = stack.azure().calls().await?;
            let entra = entra.client_id(&application.client_id).to(Service::Entra);
            assert_eq!(entra.count(), 1);
            assert!(calls().await? >= asked);

            repairs_on_request(&team).await?;
            tells_of_a_foreign_secret(&team).await
        })
        .await
    })
}

/// Neither get nor list nor watch, by RBAC; and not by the back door of an empty patch where it is not ours.
async fn reads_no_secret(client: Client, team: &Team<'_>) -> anyhow::Result<()> {
    let foreign = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "acr-pull-foreign"},
        "stringData": {"password": "of somebody else"},
    });
    let foreign: Secret = serde_json::from_value(foreign)?;
    team.api::<Secret>()
        .create(&PostParams::default(), &foreign)
        .await?;
    let secrets: Api<Secret> = Api::namespaced(client, team.namespace());
    let name = "acr-pull-foreign";
    assert_eq!(refusal(secrets.get(name).await), Some(403));
    assert_eq!(refusal(secrets.list(&ListParams::default()).await), Some(403));
    let nothing = Patch::Merge(json!({}));
    wait_for("the policy is in effect", PATIENCE, async || {
        let tried = secrets.patch(name, &PatchParams::default(), &nothing).await;
        Ok(refusal(tried) == Some(403))
    })
    .await
}

/// What a first write of a process relies on: a dry run of an empty patch names the version and changes nothing.
async fn looks_at_its_own_secret(client: Client, team: &Team<'_>) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client, team.namespace());
    let (dry, nothing) = (PatchParams::default().dry_run(), Patch::Merge(json!({})));
    let before = team.api::<Secret>().get("acr-pull-web").await?;
    let seen = secrets.patch_metadata("acr-pull-web", &dry, &nothing).await?;
    assert_eq!(seen.metadata, before.metadata);
    assert_eq!(team.api::<Secret>().get("acr-pull-web").await?, before);
    let absent = secrets.patch_metadata("acr-pull-absent", &dry, &nothing).await;
    assert_eq!(refusal(absent), Some(404));
    Ok(())
}

/// Our own Secret, overwritten and then deleted by a person.
async fn repairs_on_request(team: &Team<'_>) -> anyhow::Result<()> {
    let secrets = team.api::<Secret>();
    // {"auths":{}}
    let edit = Patch::Merge(json!({"data": {".dockerconfigjson": "eyJhdXRocyI6e319"}}));
    secrets
        .patch("acr-pull-web", &PatchParams::default(), &edit)
        .await?;
    team.request_refresh("web", "overwritten").await?;
    answered(team, "overwritten").await?;
    secrets.delete("acr-pull-web", &DeleteParams::default()).await?;
    team.request_refresh("web", "deleted").await?;
    answered(team, "deleted").await?;
    team.ready("web").await?;
    Ok(())
}

async fn answered(team: &Team<'_>, request: &str) -> anyhow::Result<()> {
    let what = format!("the request {request:?} is answered");
    poll(&what, PATIENCE, async || {
        let found = team.pull_secret("web").await?;
        let is_answered = found.as_ref().is_some_and(|secret| {
            secret.annotation("acrpull.microsoft.com/refresh-requested") == Some(request)
                && secret.login(team.registry()).is_ok()
        });
        Ok(if is_answered {
            Ok(())
        } else {
            Err(format!("{:?}", found.map(|secret| secret.object.metadata)))
        })
    })
    .await
}

async fn tells_of_a_foreign_secret(team: &Team<'_>) -> anyhow::Result<()> {
    let secrets = team.api::<Secret>();
    let before = secrets.get("acr-pull-foreign").await?;
    team.create(&bound("foreign", team)).await?;
    team.refused("foreign", "SecretSynced", "SecretConflict").await?;
    let told = team.api::<AcrPullBinding>().get("foreign").await?;
    let linked = condition(&told, "ServiceAccountLinked").map(|linked| linked.reason.as_str());
    assert_eq!(linked, Some("SecretConflict"));
    assert_eq!(secrets.get("acr-pull-foreign").await?, before, "it was touched");
    Ok(())
}

/// The code that a call was refused with.
fn refusal<T>(result: kube::Result<T>) -> Option<u16> {
    match result {
        Err(kube::Error::Api(status)) => Some(status.code),
        Ok(_) | Err(_) => None,
    }
}
