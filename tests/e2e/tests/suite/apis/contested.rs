//! Somebody undoes what the syncer writes, every time: it stops taking part, and says so once.

use std::time::Duration;

use e2e::{poll, wait_for};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use syncer::crd::AcrPullBindingStatus;

use super::{ACCOUNT, OWN, SCOPE, Side, in_both_apis};
use crate::shared::EITHER_API;

const PATIENCE: Duration = Duration::from_secs(15);
/// A repair at once would be there within this.
const WHILE: Duration = Duration::from_millis(900);
/// More rounds than any fight may last.
const MANY: usize = 20;

fn is_contested(status: &AcrPullBindingStatus, kind: &str) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|condition| {
        condition.type_ == kind && condition.status == "False" && condition.reason == "Contested"
    })
}

/// Undoes each write of the syncer as soon as it is there, until the binding says that this is a fight. Returns how many
/// writes there were to undo.
async fn fight(
    side: &Side<'_>,
    kind: &str,
    is_there: impl AsyncFn() -> anyhow::Result<bool>,
    undo: impl AsyncFn() -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    for round in 0..MANY {
        let goes_on = poll("the write, or a word about it", PATIENCE, async || {
            if is_there().await? {
                return Ok(Ok(true));
            }
            let (_binding, status) = side.get("one").await?;
            Ok(is_contested(&status, kind).then_some(false).ok_or("neither"))
        })
        .await?;
        if !goes_on {
            return Ok(round);
        }
        undo().await?;
    }
    anyhow::bail!("{MANY} writes were undone and the syncer goes on")
}

/// Waits until the fight is told, and sees that one event does it.
async fn told_once(side: &Side<'_>) -> anyhow::Result<()> {
    wait_for(
        "the fight is told",
        PATIENCE,
        async || Ok(events(side).await? > 0),
    )
    .await?;
    assert_eq!(events(side).await?, 1);
    Ok(())
}

/// The events of the binding with this reason, however often each was told.
async fn events(side: &Side<'_>) -> anyhow::Result<i32> {
    let events = side.team.api::<Event>().list(&ListParams::default()).await?;
    let contested = events
        .items
        .iter()
        .filter(|event| event.reason.as_deref() == Some("Contested"));
    Ok(contested
        .map(|event| event.series.as_ref().map_or(1, |series| series.count))
        .sum())
}

#[test]
fn link_that_is_removed_again_and_again_is_contested_and_no_longer_restored_at_once() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        let secret_name = side.secret_name("one");
        let accounts = side.team.api::<ServiceAccount>();
        let remove = async || {
            let own = Patch::Merge(json!({"imagePullSecrets": [{"name": OWN}]}));
            Ok(accounts.patch(ACCOUNT, &PatchParams::default(), &own).await?)
        };
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        let is_linked = async || Ok(side.team.links(ACCOUNT).await?.contains(&secret_name));
        let undo = async || remove().await.map(|_account| ());
        let writes = fight(side, "ServiceAccountLinked", is_linked, undo).await?;
        assert_eq!(writes, 5, "the first link and four repairs");
        let contested = side
            .wait("one", "is contested", |status| is_contested(status, "Ready"))
            .await?;
        assert!(!is_contested(&contested, "SecretSynced"));

        // The syncer neither writes the ServiceAccount nor the binding because of one more round.
        let removed = remove().await?;
        let (before, _status) = side.get("one").await?;
        tokio::time::sleep(WHILE).await;
        let left = accounts.get(ACCOUNT).await?;
        assert_eq!(left.resource_version(), removed.resource_version());
        let (after, _status) = side.get("one").await?;
        assert_eq!(after.resource_version(), before.resource_version());
        told_once(side).await?;

        // Another ServiceAccount of that name is nobody's fight.
        accounts
            .delete(ACCOUNT, &kube::api::DeleteParams::default())
            .await?;
        side.team.create_account(ACCOUNT, &[OWN], &[]).await?;
        side.team.wait_links(ACCOUNT, &[OWN, &secret_name]).await?;
        side.ready("one").await?;
        Ok(())
    })
}

#[test]
fn secret_that_is_overwritten_again_and_again_is_contested_until_a_person_asks() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        let secrets = side.team.api::<Secret>();
        let name = side.secret_name("one");
        // {"auths":{}}
        let overwrite = Patch::Merge(json!({"data": {".dockerconfigjson": "eyJhdXRocyI6e319"}}));
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        let is_ours = async || Ok(side.secret("one").await?.login(EITHER_API.registry).is_ok());
        let undo = async || {
            secrets.patch(&name, &PatchParams::default(), &overwrite).await?;
            Ok(())
        };
        let writes = fight(side, "SecretSynced", is_ours, undo).await?;
        assert_eq!(writes, 5, "the first payload and four repairs");
        side.wait("one", "is contested", |status| is_contested(status, "Ready"))
            .await?;
        let version = secrets.get(&name).await?.resource_version();
        tokio::time::sleep(WHILE).await;
        assert_eq!(secrets.get(&name).await?.resource_version(), version);
        told_once(side).await?;

        side.request_refresh("one", "now").await?;
        side.wait_secret("one", "is ours", |secret| {
            secret.login(EITHER_API.registry).is_ok()
        })
        .await?;
        Ok(())
    })
}
