//! Both controllers at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;
use syncer::binding::ApiVersion;
use syncer::crd::AcrPullBindingStatus;

use super::peer::Bound;
use crate::shared::{HANDOVER, alone};

/// What one of them would answer the other with would have come by then.
const WHILE: Duration = Duration::from_millis(900);

#[test]
fn duplicate_controller_is_told_once_and_neither_undoes_the_other() -> anyhow::Result<()> {
    alone(async |stack| {
        for api in ApiVersion::ALL {
            let team = stack.team(HANDOVER.prefix).await?;
            team.create_account("web", &[], &[]).await?;
            let bound = Bound::by_identity(&team, api, "web", "web");
            let token = bound.token().await?;
            stack.syncer().stop().await;
            bound.leave(&token).await?;
            let asked = stack.azure().calls().await?.count();

            let claims = AtomicUsize::new(0);
            let meanwhile = async {
                stack.syncer().start().await?;
                bound
                    .wait("is contested", |_binding, status| {
                        degraded_for(status) == "DuplicateController"
                    })
                    .await?;
                // The peer renews its token.
                for _renewal in 0..3 {
                    bound.write_secret(&token).await?;
                    tokio::time::sleep(WHILE).await;
                }
                anyhow::Ok(())
            };
            tokio::select! {
                ended = bound.watch(&claims) => ended?,
                ended = meanwhile => ended?,
            }
            assert_eq!(claims.load(Ordering::SeqCst), 1, "the finalizer was fought over");
            assert_eq!(
                stack.azure().calls().await?.count(),
                asked,
                "a token was asked for while the peer had one"
            );
            let secret = bound.secret().await?;
            assert_eq!(secret.docker_config, token);
            assert_eq!(
                secret.annotation("acrpull.microsoft.com/inputs"),
                None,
                "it was written"
            );
            let Some((_binding, status)) = bound.get().await? else {
                bail!("the binding is gone")
            };
            let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
            assert!(ready.is_some_and(|ready| ready.status == "True"), "{status:?}");
            assert_eq!(told(&bound).await?, 1);

            // The peer was ended, and somebody asks.
            let asks = json!({"acrpull.microsoft.com/refresh-requested": "now"});
            bound.patch(&json!({"metadata": {"annotations": asks}})).await?;
            bound
                .wait("is ours alone", |binding, status| {
                    binding.finalizers().is_empty()
                        && status.error.is_none()
                        && status.next_refresh_time.is_some()
                })
                .await?;
            assert!(!bound.would_mint(&bound.secret().await?)?);
            assert_eq!(told(&bound).await?, 1);
        }
        Ok(())
    })
}

fn degraded_for(status: &AcrPullBindingStatus) -> &str {
    let mut conditions = status.conditions.iter();
    let degraded = conditions.find(|one| one.type_ == "RefreshDegraded" && one.status == "True");
    degraded.map_or("", |degraded| degraded.reason.as_str())
}

/// How often it was told that there are two.
async fn told(bound: &Bound<'_>) -> anyhow::Result<i32> {
    let events = bound.team.api::<Event>().list(&ListParams::default()).await?;
    let about = events
        .items
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some("DuplicateController"));
    Ok(about
        .map(|event| event.series.map_or(1, |series| series.count))
        .sum())
}
