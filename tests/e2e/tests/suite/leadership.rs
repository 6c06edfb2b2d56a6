//! Two replicas of the syncer: one works, the other stands by and takes over, whatever becomes of the first.

mod late_writes;

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use azure_simulator::{Action, Fault, Service};
use e2e::{NAMESPACE, Pod, Stack, Team, binding, wait_for};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rustix::process::Signal;
use serde_json::json;
use syncer::binding::ApiVersion;

use crate::shared::{EITHER_API, alone, beside_others};
use crate::side::{ACCOUNT, Side};

const SCOPE: &str = "repository:team/web:pull";
/// Two looks at the Lease, and the machine of the tests is busy.
const HANDED_OVER: Duration = Duration::from_secs(5);
/// The lease duration, a look before and one after, and the same.
const EXPIRED: Duration = Duration::from_secs(25);
/// Until a process that has lost the Lease has ended.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Numbers of replicas that were not given away yet.
static REPLICAS: AtomicU8 = AtomicU8::new(1);

/// Waits until a replica works, whose predecessor was killed.
pub(crate) async fn leads_again(replica: &Pod) -> anyhow::Result<()> {
    takes_over(replica, EXPIRED).await
}

/// Whether a replica is the one that works.
async fn leads(replica: &Pod) -> anyhow::Result<bool> {
    let metrics = replica.metrics().await?;
    Ok(metrics.lines().any(|line| line == "acrpull_syncer_leader 1"))
}

async fn takes_over(replica: &Pod, deadline: Duration) -> anyhow::Result<()> {
    wait_for(&format!("{} leads", replica.name()), deadline, async || {
        leads(replica).await
    })
    .await
}

/// With a second replica, which stands by. The first leads before and after.
async fn with_standby(
    stack: &Stack,
    test: impl AsyncFnOnce(&Pod) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let first = stack.syncer();
    takes_over(first, EXPIRED).await?;
    // The folders of one that was there before are still there.
    let second = first.replica(REPLICAS.fetch_add(1, Ordering::Relaxed)).await?;
    let result = test(&second).await;
    first.signal(Signal::CONT);
    // What was killed is still to be stopped before it can be started.
    if !leads(first).await.unwrap_or(false) {
        first.restart().await?;
    }
    second.stop().await;
    takes_over(first, EXPIRED).await?;
    result
}

/// Whoever asks for a token of the team's registry from now on waits for it.
async fn slow_down(stack: &Stack, team: &Team<'_>) -> anyhow::Result<()> {
    let slow = Fault::new(Action::Latency {
        ms: 3_000,
        jitter_ms: 0,
    });
    let slow = slow.on_service(Service::Acr).host(team.registry());
    stack.azure().add_fault(slow).await
}

async fn holder(stack: &Stack) -> anyhow::Result<String> {
    let leases: Api<Lease> = Api::namespaced(stack.client()?, NAMESPACE);
    let spec = leases.get("acrpull-syncer").await?.spec;
    spec.and_then(|spec| spec.holder_identity)
        .context("nobody holds the lease")
}

/// Whether a holder's name is that of a replica, which is followed by a random suffix.
fn is_of(holder: &str, replica: &Pod) -> bool {
    holder
        .rsplit_once('_')
        .is_some_and(|(name, _suffix)| name == replica.name())
}

#[test]
fn leader_that_is_told_to_stop_hands_over_at_once_and_the_standby_had_done_nothing() -> anyhow::Result<()> {
    alone(async |stack| {
        with_standby(stack, async |second| {
            assert!(is_of(&holder(stack).await?, stack.syncer()));
            let team = stack.team("hand-over").await?;
            team.federated_account("web").await?;
            team.create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
                .await?;
            team.ready("web").await?;
            let before = team.secret("web").await?;
            let idle = second.metrics().await?;
            for line in idle.lines().filter(|line| !line.starts_with('#')) {
                assert!(!line.contains("verb=\"patch\""), "{line}");
                assert!(!line.starts_with("acrpull_syncer_reconcile_total"), "{line}");
                assert!(!line.starts_with("acrpull_syncer_refresh_total"), "{line}");
            }

            stack.syncer().stop().await;
            takes_over(second, HANDED_OVER).await?;
            assert!(is_of(&holder(stack).await?, second));
            team.federated_account("later").await?;
            team.create(&binding::workload_identity(
                "later",
                "later",
                team.registry(),
                SCOPE,
            ))
            .await?;
            team.ready("later").await?;
            let after = team.secret("web").await?;
            assert_eq!(after.version(), before.version(), "the Secret was written");
            Ok(())
        })
        .await
    })
}

#[test]
fn leader_that_is_killed_is_succeeded_when_its_lease_has_expired() -> anyhow::Result<()> {
    alone(async |stack| {
        with_standby(stack, async |second| {
            let team = stack.team(EITHER_API.prefix).await?;
            team.create_account(ACCOUNT, &[], &[]).await?;
            let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
            let mut before = Vec::new();
            for side in &sides {
                side.create("before", &side.spec(ACCOUNT, SCOPE)).await?;
                side.ready("before").await?;
                before.push(side.secret("before").await?.version());
            }
            stack.syncer().signal(Signal::KILL);
            for side in &sides {
                side.create("after", &side.spec(ACCOUNT, SCOPE)).await?;
            }
            takes_over(second, EXPIRED).await?;
            for (side, before) in sides.iter().zip(before) {
                side.ready("after").await?;
                let links = team.links(ACCOUNT).await?;
                assert!(links.contains(&side.secret_name("after")), "{links:?}");
                let secret = side.secret("before").await?;
                assert_eq!(secret.version(), before, "the Secret was written");
            }
            Ok(())
        })
        .await
    })
}

/// It had asked for a token when it was held up, and finds the answer when it goes on.
#[test]
fn leader_that_was_held_up_ends_and_has_written_nothing() -> anyhow::Result<()> {
    alone(async |stack| {
        with_standby(stack, async |second| {
            let first = stack.syncer();
            let team = stack.team("held-up").await?;
            let application = team.federated_account("web").await?;
            slow_down(stack, &team).await?;
            team.create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
                .await?;
            wait_for("Azure is asked", AT_ONCE, async || {
                let calls = stack.azure().calls().await?;
                Ok(!calls.client_id(&application.client_id).is_empty())
            })
            .await?;
            first.signal(Signal::STOP);
            takes_over(second, EXPIRED).await?;
            team.ready("web").await?;
            let secret = team.secret("web").await?;
            let links = team.links("web").await?;

            first.signal(Signal::CONT);
            let ended = tokio::time::timeout(AT_ONCE, first.failed()).await?.to_string();
            assert!(ended.contains("exit status: 1"), "{ended}");
            assert!(
                ended.contains("the lease acrpull-system/acrpull-syncer is lost"),
                "{ended}"
            );
            assert_eq!(
                team.secret("web").await?.version(),
                secret.version(),
                "the Secret was written"
            );
            assert_eq!(team.links("web").await?, links);
            assert!(leads(second).await?);
            Ok(())
        })
        .await
    })
}

/// The same precondition keeps a write that an old leader left hanging from the Secret of its successor.
#[test]
fn secret_that_changes_while_its_token_is_fetched_is_looked_at_again_and_nothing_has_failed()
-> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("outpaced").await?;
        team.federated_account("web").await?;
        team.create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        team.ready("web").await?;
        let before = team.secret("web").await?;
        slow_down(stack, &team).await?;
        let asked = async || {
            let calls = stack.azure().calls().await?;
            anyhow::Ok(calls.host(team.registry()).count())
        };
        let asked_before = asked().await?;
        let races_before = refused_for_their_version(stack.syncer()).await?;
        team.patch(
            "web",
            &json!({"spec": {"acr": {"scope": "repository:team/other:pull"}}}),
        )
        .await?;
        wait_for("Azure is asked", AT_ONCE, async || {
            Ok(asked().await? > asked_before)
        })
        .await?;
        let label = json!({"metadata": {"labels": {"seen-by": "somebody"}}});
        team.api::<Secret>()
            .patch("acr-pull-web", &PatchParams::default(), &Patch::Merge(&label))
            .await?;

        wait_for("the token is replaced", EXPIRED, async || {
            Ok(team.secret("web").await?.docker_config != before.docker_config)
        })
        .await?;
        let labels = team
            .secret("web")
            .await?
            .object
            .metadata
            .labels
            .unwrap_or_default();
        assert_eq!(labels.get("seen-by").map(String::as_str), Some("somebody"));
        let races = refused_for_their_version(stack.syncer()).await?;
        assert!(races > races_before, "the write was not refused");
        let status = team.ready("web").await?.status.context("no status")?;
        assert_eq!(status.error, None);
        assert_eq!(status.last_failure.map(|failure| failure.message), None);
        Ok(())
    })
}

/// Both leaders have the same field manager, so without the version the server would let the older one write.
#[test]
fn secret_that_an_old_leader_creates_too_late_is_refused() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("too-late").await?;
        let secrets = team.api::<Secret>();
        let applied = async |version: Option<&str>, password: &str| {
            let object = json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "acr-pull-web", "resourceVersion": version},
                "stringData": {"password": password},
            });
            let params = PatchParams::apply("acrpull-syncer");
            secrets
                .patch("acr-pull-web", &params, &Patch::Apply(&object))
                .await
        };
        let created = applied(Some("1"), "of the successor").await?;
        let refused = applied(Some("1"), "of the old leader").await;
        assert!(
            matches!(&refused, Err(kube::Error::Api(status)) if status.code == 409),
            "{refused:?}"
        );
        assert_eq!(secrets.get("acr-pull-web").await?, created);
        assert!(
            applied(None, "of the old leader").await.is_ok(),
            "the version is what refuses"
        );
        Ok(())
    })
}

/// Writes of Secrets that the API server refused because somebody else was faster.
async fn refused_for_their_version(syncer: &Pod) -> anyhow::Result<u64> {
    const LINE: &str =
        "acrpull_syncer_kube_requests_total{verb=\"patch\",resource=\"secrets\",code=\"409\"} ";
    let metrics = syncer.metrics().await?;
    let count = metrics.lines().find_map(|line| line.strip_prefix(LINE));
    Ok(count.map(str::parse).transpose()?.unwrap_or_default())
}
