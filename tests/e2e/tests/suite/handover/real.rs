//! The hand-over from Azure/msi-acrpull itself, and back to it.

use std::time::Duration;

use azure_simulator::{Operation, Service};
use e2e::{PullSecret, Stack, TENANT, Team};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use syncer::binding::ApiVersion;
use syncer::links::RECORD_ANNOTATION;

use super::msi_acrpull::MsiAcrpull;
use super::peer::{Bound, FINALIZER};
use super::pulling;
use crate::shared::{HANDOVER, alone};

/// What one of them would answer the other with would have come by then.
const WHILE: Duration = Duration::from_secs(3);

/// Another repository than that of all bindings.
const OTHER_SCOPE: &str = "repository:team/other:pull";

#[test]
#[ignore = "needs the program: see the README"]
fn b26_msi_acrpull_itself_is_taken_over_while_pods_pull_and_going_back_costs_nothing() -> anyhow::Result<()> {
    let program = MsiAcrpull::given()?;
    alone(async |stack| {
        let team = stack.team(HANDOVER.prefix).await?;
        prepare(stack, &team).await?;
        let bound = bound(&team);
        stack.syncer().stop().await;

        let peer = MsiAcrpull::start(stack, &program).await?;
        let mut left = Vec::new();
        for one in &bound {
            one.create().await?;
        }
        for one in &bound {
            left.push(peer.meanwhile(is_the_peers(one)).await?);
        }
        let mut links = Vec::new();
        for (one, secret) in bound.iter().zip(&left) {
            one.is_as_written_here(secret).await?;
            links.push(team.links(one.account).await?);
        }
        peer.stop().await;

        // Forth.
        let pulled = pulling::throughout(stack, &bound, async {
            stack.syncer().start().await?;
            for one in &bound {
                is_ours(one).await?;
            }
            Ok(())
        })
        .await?;
        for (one, payloads) in &pulled.payloads {
            assert!(payloads.len() <= 2, "{one} was written {} times", payloads.len());
        }
        let mut ours = Vec::new();
        for ((one, left), links) in bound.iter().zip(&left).zip(&links) {
            let secret = one.secret().await?;
            assert_eq!(secret.version().1, left.version().1, "the Secret of {}", one.name);
            assert!(
                secret.docker_config != left.docker_config,
                "it is still the peer's token"
            );
            assert_eq!(&team.links(one.account).await?, links, "an entry moved");
            ours.push(secret);
        }

        // A Secret that the peer has never seen.
        let late = Bound::by_identity(&team, ApiVersion::V1Beta2, "late", "web-late");
        late.create().await?;
        is_ours(&late).await?;
        let inputs = |secret: &PullSecret| {
            secret
                .annotation("acrpull.microsoft.com/inputs")
                .map(str::to_owned)
        };
        let of_one_account = inputs(&late.secret().await?);
        late.patch(&json!({"spec": {"serviceAccountNames": ["web-batch"]}}))
            .await?;
        late.wait_secret("is for two ServiceAccounts", |secret| {
            inputs(secret) != of_one_account
        })
        .await?;
        ours.push(late.secret().await?);
        let [web, batch, legacy] = bound;
        let bound = [web, batch, legacy, late];

        // And back.
        stack.syncer().stop().await;
        let asked = minting(stack).await?;
        let peer = MsiAcrpull::start(stack, &program).await?;
        let back = async {
            for one in &bound {
                one.wait("is the peer's again", |binding, _status| {
                    binding.finalizers().iter().any(|name| name == FINALIZER)
                })
                .await?;
            }
            tokio::time::sleep(WHILE).await;
            Ok(())
        };
        pulling::throughout(stack, &bound, peer.meanwhile(back)).await?;
        assert_eq!(minting(stack).await?, asked, "going back cost a token");
        for (one, ours) in bound.iter().zip(&ours) {
            assert_eq!(
                one.secret().await?.version(),
                ours.version(),
                "{} was written",
                one.name
            );
        }

        // It goes on with what it finds: a token that it wants for something else replaces ours in place.
        for (one, ours) in bound.iter().zip(&ours) {
            one.patch(&scope(one.api, OTHER_SCOPE)).await?;
            let renewed = one.wait_secret("is renewed by the peer", |secret| {
                secret.docker_config != ours.docker_config
            });
            let renewed = peer.meanwhile(renewed).await?;
            assert_eq!(renewed.version().1, ours.version().1);
            // What it does not know it drops when it writes: our words in the status, and more than one ServiceAccount.
            one.wait("has the status of the peer alone", |binding, status| {
                status.conditions.is_empty() && binding.data.pointer("/spec/serviceAccountNames").is_none()
            })
            .await?;
        }
        peer.stop().await;
        stack.syncer().start().await
    })
}

#[test]
#[ignore = "needs the program: see the README"]
fn duplicate_controller_msi_acrpull_itself_is_noticed_and_neither_undoes_the_other() -> anyhow::Result<()> {
    let program = MsiAcrpull::given()?;
    alone(async |stack| {
        let team = stack.team(HANDOVER.prefix).await?;
        prepare(stack, &team).await?;
        let bound = bound(&team);
        stack.syncer().stop().await;
        let peer = MsiAcrpull::start(stack, &program).await?;
        for one in &bound {
            one.create().await?;
        }
        for one in &bound {
            peer.meanwhile(is_the_peers(one)).await?;
        }

        stack.syncer().start().await?;
        for one in &bound {
            let noticed = one.wait("is contested", |_binding, status| {
                let mut conditions = status.conditions.iter();
                conditions.any(|one| one.type_ == "RefreshDegraded" && one.reason == "DuplicateController")
            });
            peer.meanwhile(noticed).await?;
        }
        let mut before = Vec::new();
        for one in &bound {
            before.push((one.versions().await?, team.links(one.account).await?));
        }
        let asked = stack.azure().calls().await?.count();
        tokio::time::sleep(WHILE).await;
        assert_eq!(stack.azure().calls().await?.count(), asked, "they fight");
        for (one, (versions, links)) in bound.iter().zip(&before) {
            assert_eq!(&one.versions().await?, versions, "{} is fought over", one.name);
            assert_eq!(&team.links(one.account).await?, links);
        }

        // The peer ends, and somebody asks.
        peer.stop().await;
        let asks = json!({"metadata": {"annotations": {"acrpull.microsoft.com/refresh-requested": "now"}}});
        for one in &bound {
            one.patch(&asks).await?;
        }
        for one in &bound {
            is_ours(one).await?;
        }
        Ok(())
    })
}

/// One binding of each kind that the peer has credentials for.
fn bound<'a>(team: &'a Team<'a>) -> [Bound<'a>; 3] {
    [
        Bound::by_account(team, "web", "web"),
        Bound::by_identity(team, ApiVersion::V1Beta2, "batch", "web-batch"),
        Bound::by_identity(team, ApiVersion::V1Beta1, "legacy", "web-legacy"),
    ]
}

/// Images to pull, and ServiceAccounts. The peer wants the tenant on them as well.
async fn prepare(stack: &Stack, team: &Team<'_>) -> anyhow::Result<()> {
    for registry in [HANDOVER.registry, team.registry()] {
        stack
            .images()
            .push(stack.azure(), registry, "team/web", "v1")
            .await?;
    }
    team.federated_account("web").await?;
    let tenant = json!({"metadata": {"annotations": {"azure.workload.identity/tenant-id": TENANT}}});
    team.api::<ServiceAccount>()
        .patch("web", &PatchParams::default(), &Patch::Merge(&tenant))
        .await?;
    for account in ["web-batch", "web-legacy", "web-late"] {
        team.create_account(account, &["zeta-own", "aaa-own"], &[])
            .await?;
    }
    Ok(())
}

/// Waits until the peer has done all that it does.
async fn is_the_peers(bound: &Bound<'_>) -> anyhow::Result<PullSecret> {
    bound
        .wait("has a token of the peer's", |_binding, status| {
            status.token_expiration_time.is_some()
        })
        .await?;
    bound.secret().await
}

/// Waits until the peer is known to be gone, and the token is one of ours.
async fn is_ours(bound: &Bound<'_>) -> anyhow::Result<()> {
    bound
        .wait("is ours alone", |binding, status| {
            let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
            binding.finalizers().is_empty()
                && status.error.is_none()
                && status.next_refresh_time.is_some()
                && ready.is_some_and(|ready| ready.status == "True")
        })
        .await?;
    let account = bound.team.api::<ServiceAccount>().get(bound.account).await?;
    let record = account.annotations().get(RECORD_ANNOTATION);
    assert_eq!(record, Some(&bound.secret_name()));
    Ok(())
}

/// How often Azure was asked for something of which a token is made. Pulls ask for tokens, too, and for no such thing.
async fn minting(stack: &Stack) -> anyhow::Result<usize> {
    let calls = stack.azure().calls().await?.filter(|call| {
        [
            (Service::Entra, Operation::Token),
            (Service::Imds, Operation::Token),
            (Service::Acr, Operation::Exchange),
        ]
        .contains(&(call.service, call.op))
    });
    Ok(calls.count())
}

fn scope(api: ApiVersion, scope: &str) -> Value {
    match api {
        ApiVersion::V1Beta2 => json!({"spec": {"acr": {"scope": scope}}}),
        ApiVersion::V1Beta1 => json!({"spec": {"scope": scope}}),
    }
}
