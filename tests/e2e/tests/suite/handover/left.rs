//! What the peer left when it was ended.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use syncer::binding::ApiVersion;
use syncer::links::RECORD_ANNOTATION;

use super::peer::{Bound, FINALIZER};
use super::pulling;
use crate::shared::{HANDOVER, alone};

/// Entries of the team's own. The peer has sorted them, with its own among them.
const OWN: [&str; 2] = ["zeta-own", "aaa-own"];

#[test]
fn b26_all_that_the_peer_left_is_taken_over_in_place_while_pods_pull() -> anyhow::Result<()> {
    alone(async |stack| {
        let team = stack.team(HANDOVER.prefix).await?;
        for registry in [HANDOVER.registry, team.registry()] {
            stack
                .images()
                .push(stack.azure(), registry, "team/web", "v1")
                .await?;
        }
        team.federated_account("web").await?;
        for account in ["web-batch", "web-legacy", "web-old", "web-bare"] {
            team.create_account(account, &OWN, &[]).await?;
        }
        let bound = [
            Bound::by_account(&team, "web", "web"),
            Bound::by_identity(&team, ApiVersion::V1Beta2, "batch", "web-batch"),
            Bound::by_identity(&team, ApiVersion::V1Beta1, "legacy", "web-legacy"),
            Bound::by_identity(&team, ApiVersion::V1Beta1, "old", "web-old"),
            Bound::by_identity(&team, ApiVersion::V1Beta2, "bare", "web-bare"),
        ];
        let mut tokens = Vec::new();
        for one in &bound {
            tokens.push(one.token().await?);
        }
        stack.syncer().stop().await;
        let (mut uids, mut links) = (Vec::new(), Vec::new());
        for (one, token) in bound.iter().zip(&tokens) {
            uids.push(one.leave(token).await?);
            links.push(team.links(one.account).await?);
        }
        let [.., old, bare] = &bound;
        for one in [old, bare] {
            forget_marks(one).await?;
        }

        let pulled = pulling::throughout(stack, &bound, async {
            stack.syncer().start().await?;
            for one in &bound {
                one.wait("is ours alone", |binding, status| {
                    let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
                    binding.finalizers().is_empty()
                        && status.next_refresh_time.is_some()
                        && ready.is_some_and(|ready| ready.status == "True")
                })
                .await?;
            }
            Ok(())
        })
        .await?;
        assert!(pulled.count > 2 * bound.len(), "{} pulls", pulled.count);
        for (one, payloads) in &pulled.payloads {
            assert!(payloads.len() <= 2, "{one} was written {} times", payloads.len());
        }

        for ((one, uid), links) in bound.iter().zip(&uids).zip(&links) {
            let secret = one.secret().await?;
            assert_eq!(&secret.version().1, uid, "Secret of {} was replaced", one.name);
            assert_eq!(&team.links(one.account).await?, links, "an entry moved");
            let account = team.api::<ServiceAccount>().get(one.account).await?;
            let record = account.annotations().get(RECORD_ANNOTATION);
            assert_eq!(record, Some(&one.secret_name()));
            assert!(
                !one.would_mint(&secret)?,
                "going back costs a token for {}",
                one.name
            );
            assert!(
                one.may_write(&secret).await?,
                "the peer could not renew {}: {:?}",
                one.name,
                secret.object.metadata.owner_references
            );
            let label = secret.object.labels().get("acr.microsoft.com/binding");
            assert_eq!(label.map(String::as_str), Some(one.name));
            assert!(one.get().await?.is_some_and(|(binding, _status)| {
                binding.finalizers().iter().all(|name| name != FINALIZER)
            }));
        }
        Ok(())
    })
}

/// As a version of the peer from before labels and annotations left its Secrets.
async fn forget_marks(bound: &Bound<'_>) -> anyhow::Result<()> {
    let marks = json!({"metadata": {"labels": null, "annotations": null}});
    let params = PatchParams {
        field_manager: Some("manager".to_owned()),
        ..PatchParams::default()
    };
    bound
        .team
        .api::<Secret>()
        .patch(&bound.secret_name(), &params, &Patch::Merge(&marks))
        .await?;
    Ok(())
}
