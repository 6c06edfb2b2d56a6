//! What Kubernetes refuses the syncer, and what the application team sees of it. No test touches the binding to get it
//! going again.

mod admission;

use std::time::Duration;

use e2e::{Team, wait_for};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{from_value, json};
use syncer::binding::ApiVersion;

use crate::shared::{EITHER_API, beside_others};
use crate::side::{ACCOUNT, SCOPE, Side};

/// Denials are tried again within a minute of the first.
const PATIENCE: Duration = Duration::from_secs(90);
/// A policy or a quota takes effect within seconds.
const EFFECT: Duration = Duration::from_secs(30);

#[test]
fn b18_quota_that_is_used_up_is_named_and_its_raise_is_noticed() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        team.create_account(ACCOUNT, &[], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        let quotas = team.api::<ResourceQuota>();
        let quota = from_value(json!({
            "metadata": {"name": "no-secrets"}, "spec": {"hard": {"count/secrets": "0"}},
        }))?;
        quotas.create(&PostParams::default(), &quota).await?;
        in_effect(&team, "the quota").await?;

        let created = create(&sides).await?;
        for side in &sides {
            let secret = side.secret_name("web");
            let message =
                format!("cannot write Secret {secret}: ResourceQuota no-secrets of the namespace is used up");
            side.refused("web", "SecretSynced", "QuotaExceeded").await?;
            let refused = side.refused("web", "Ready", "QuotaExceeded").await?;
            assert_eq!(refused.error.as_deref(), Some(&*message));
            let links = team.links(ACCOUNT).await?;
            assert!(links.contains(&secret), "the link needs no Secret: {links:?}");
            warned(side, "QuotaExceeded", "no-secrets").await?;
            let binding = format!("acrpullbindings.{}/web", side.api.group());
            let described = stack
                .plane()
                .kubectl(&["-n", team.namespace(), "describe", &binding])
                .await?;
            assert_eq!(
                described.matches(&message).count(),
                7,
                "in three conditions, in Reconciling, the error, the last failure and the event:\n{described}"
            );
        }

        let raised = Patch::Merge(json!({"spec": {"hard": {"count/secrets": "10"}}}));
        quotas
            .patch("no-secrets", &PatchParams::default(), &raised)
            .await?;
        recover(&sides, created).await
    })
}

/// Waits until a Secret of anybody is refused.
async fn in_effect(team: &Team<'_>, what: &str) -> anyhow::Result<()> {
    let secrets = team.api::<Secret>();
    let secret: Secret = from_value(json!({"metadata": {"name": "probe"}}))?;
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    wait_for(&format!("{what} is in effect"), EFFECT, async || {
        let refused = secrets.create(&params, &secret).await.err();
        Ok(refused.is_some_and(|error| {
            let error = error.to_string();
            error.contains("exceeded quota") || error.contains("denied request")
        }))
    })
    .await
}

/// Creates a binding of each API. Their generations.
async fn create(sides: &[Side<'_>]) -> anyhow::Result<Vec<Option<i64>>> {
    let created = try_join_all(
        sides
            .iter()
            .map(async |side| side.create("web", &side.spec(ACCOUNT, SCOPE)).await),
    );
    let generations = created.await?.into_iter();
    Ok(generations.map(|binding| binding.metadata.generation).collect())
}

/// An event of the side's binding says it.
async fn warned(side: &Side<'_>, reason: &str, words: &str) -> anyhow::Result<()> {
    let secret = side.secret_name("web");
    wait_for(&format!("an event says {reason}"), EFFECT, async || {
        let events = side.team.api::<Event>().list(&ListParams::default()).await?;
        Ok(events.items.iter().any(|event| {
            event.reason.as_deref() == Some(reason)
                && event.type_.as_deref() == Some("Warning")
                && event.note.as_deref().is_some_and(|note| note.contains(words))
                && event
                    .related
                    .as_ref()
                    .is_some_and(|related| related.name.as_ref() == Some(&secret))
        }))
    })
    .await
}

/// Waits until the bindings are ready, although nobody wrote them.
async fn recover(sides: &[Side<'_>], generations: Vec<Option<i64>>) -> anyhow::Result<()> {
    for (side, generation) in sides.iter().zip(generations) {
        wait_for("the binding is as it should be", PATIENCE, async || {
            Ok(side.get("web").await?.1.error.is_none())
        })
        .await?;
        let status = side.ready("web").await?;
        let (binding, _status) = side.get("web").await?;
        assert_eq!(
            binding.metadata.generation, generation,
            "nobody wrote the binding"
        );
        assert!(status.last_failure.is_some(), "kept for those who ask later");
        assert!(
            status
                .conditions
                .iter()
                .all(|one| !["Reconciling", "Stalled"].contains(&one.type_.as_str())),
            "{status:?}"
        );
    }
    Ok(())
}
