//! The hand-over that docs/migration.md describes binding by binding: the two controllers have different bindings, by a
//! label, and a binding is moved by that label while the peer goes on with the others.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use e2e::{PullSecret, Stack, Team};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;
use syncer::binding::ApiVersion;
use syncer::links::RECORD_ANNOTATION;

use super::peer::{Bound, FINALIZER};
use super::pulling;
use crate::shared::{ELSEWHERE, HANDOVER, beside_others};

/// Keeps the stack's own syncer away from the bindings of this test.
const OF_THIS_TEST: (&str, &str) = (ELSEWHERE, "one-by-one");
/// As in the document: with it a binding is the syncer's, without it the peer's.
const MOVED: (&str, &str) = ("pull-by", "acrpull");

#[test]
fn handover_binding_by_binding_moves_what_is_labelled_while_pods_pull_and_leaves_the_rest_to_the_peer()
-> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(HANDOVER.prefix).await?;
        stack
            .images()
            .push(stack.azure(), HANDOVER.registry, "team/web", "v1")
            .await?;
        // Each has a binding that is moved and one that is not.
        for account in ["web", "web-old"] {
            team.create_account(account, &[], &[]).await?;
        }
        let bound = [
            ("moves", ApiVersion::V1Beta2, "web"),
            ("stays", ApiVersion::V1Beta2, "web"),
            ("moves-old", ApiVersion::V1Beta1, "web-old"),
            ("stays-old", ApiVersion::V1Beta1, "web-old"),
        ];
        let bound = bound.map(|(name, api, account)| {
            Bound::by_identity(&team, api, name, account).labelled(&[OF_THIS_TEST])
        });
        let mut left = Vec::new();
        for one in &bound {
            let token = one.token().await?;
            let uid = one.leave(&token).await?;
            left.push((token, uid));
        }
        let links = [team.links("web").await?, team.links("web-old").await?];
        let [moves, stays, moves_old, stays_old] = &bound;

        let syncer = syncer(stack).await?;
        let claims = AtomicUsize::new(0);
        let meanwhile = async {
            for one in [moves, moves_old] {
                one.patch(&json!({"metadata": {"labels": {MOVED.0: MOVED.1}}}))
                    .await?;
                one.wait("is ours alone", |binding, status| {
                    let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
                    binding.finalizers().is_empty()
                        && status.next_refresh_time.is_some()
                        && ready.is_some_and(|ready| ready.status == "True")
                })
                .await?;
            }
            // The peer renews its own.
            for (one, (token, _uid)) in [(stays, &left[1]), (stays_old, &left[3])] {
                one.write_secret(token).await?;
            }
            anyhow::Ok(())
        };
        let pulled = {
            let peer = pin!(try_join_all([stays.watch(&claims), stays_old.watch(&claims)]));
            let pulled = pin!(pulling::throughout(stack, &bound, meanwhile));
            tokio::select! {
                ended = peer => anyhow::bail!("the peer ended: {ended:?}"),
                pulled = pulled => pulled?,
            }
        };
        syncer.stop().await;
        assert!(pulled.count > bound.len(), "{} pulls", pulled.count);
        assert_eq!(
            claims.load(Ordering::SeqCst),
            0,
            "a finalizer of the peer's was removed"
        );

        for (one, (_token, uid)) in bound.iter().zip(&left) {
            let secret = one.secret().await?;
            assert_eq!(&secret.version().1, uid, "Secret of {} was replaced", one.name);
            assert!(!one.would_mint(&secret)?, "{} costs the peer a token", one.name);
        }
        for (one, (token, _uid)) in [(stays, &left[1]), (stays_old, &left[3])] {
            is_the_peers(one, &one.secret().await?, token).await?;
        }
        assert_eq!([team.links("web").await?, team.links("web-old").await?], links);
        records(&team, moves).await?;
        records(&team, moves_old).await?;
        let events = team.api::<Event>().list(&ListParams::default()).await?;
        let doubles = events
            .items
            .iter()
            .filter(|event| event.reason.as_deref() == Some("DuplicateController"));
        assert_eq!(doubles.count(), 0, "they do not work on the same bindings");
        // The stack's own syncer does it, so that the namespace can go.
        for one in &bound {
            one.patch(&json!({"metadata": {"labels": {OF_THIS_TEST.0: null}}}))
                .await?;
        }
        for one in [stays, stays_old] {
            one.wait("is released", |binding, _status| binding.finalizers().is_empty())
                .await?;
        }
        Ok(())
    })
}

async fn syncer(stack: &Stack) -> anyhow::Result<e2e::Pod> {
    let arguments = [
        format!(
            "--label-selector={}={},{}={}",
            OF_THIS_TEST.0, OF_THIS_TEST.1, MOVED.0, MOVED.1
        ),
        // Otherwise it would stand by: the stack's syncer holds the Lease.
        "--leader-elect=false".to_owned(),
    ];
    stack
        .syncer()
        .another("acrpull-syncer-one-by-one", &arguments)
        .await
}

/// Nobody but the peer has written the binding or its Secret.
async fn is_the_peers(bound: &Bound<'_>, secret: &PullSecret, token: &str) -> anyhow::Result<()> {
    let (binding, status) = bound.get().await?.context("the binding is gone")?;
    assert!(binding.finalizers().iter().any(|name| name == FINALIZER));
    assert!(status.conditions.is_empty(), "{status:?}");
    assert_eq!(secret.docker_config, token);
    assert_eq!(secret.annotation("acrpull.microsoft.com/inputs"), None);
    Ok(())
}

/// The ServiceAccount has the link of this binding on record, and no other.
async fn records(team: &Team<'_>, bound: &Bound<'_>) -> anyhow::Result<()> {
    let account = team.api::<ServiceAccount>().get(bound.account).await?;
    let record = account.annotations().get(RECORD_ANNOTATION);
    assert_eq!(record, Some(&bound.secret_name()));
    Ok(())
}
