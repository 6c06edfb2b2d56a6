//! Guarantee S8 on real Secrets: replicas share nothing and have tokens of their own, and a binding is asked for at one
//! of them and then at another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use e2e::{Balancer, Pod, PullSecret, Stack};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{WatchEvent, WatchParams};
use syncer::binding::ApiVersion;
use tokio::time::interval;
use uuid::Uuid;

use crate::shared::{ELSEWHERE, SHORT_LIFE_S, SHORT_LIVED, beside_others};
use crate::side::{ACCOUNT, OWN, SCOPE, Side};

/// Bindings that share a token at each replica.
const BINDINGS: u32 = 12;
/// Their refreshes come at different times: the first of them finds a token that others have renewed long ago.
const APART: Duration = Duration::from_millis(900);
/// How often another replica is the one that is asked.
const TURN: Duration = Duration::from_millis(300);
/// Due after half of a life to two thirds of it, and a little later than others.
const PERIOD_S: (u64, u64) = (SHORT_LIFE_S / 2, SHORT_LIFE_S * 3 / 4);
const PERIODS: u64 = 2;

/// What was written to a Secret: which payload, and until when it is valid.
type Written = (String, Timestamp);

#[test]
fn s8_secret_is_written_once_a_refresh_period_while_any_replica_may_be_asked() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(SHORT_LIVED.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let others = [1, 2].map(|number| format!("acrpull-broker-{number}"));
        let others = [
            stack.broker().another(&others[0], &[]).await?,
            stack.broker().another(&others[1], &[]).await?,
        ];
        let replicas = [stack.broker(), &others[0], &others[1]];
        let addresses = replicas.map(|replica| replica.address("grpc-https"));
        let addresses = addresses.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let balancer = Balancer::start(*addresses.first().context("there are replicas")?).await?;
        let syncer = syncer_of(stack, &balancer).await?;

        let turning = async {
            let mut ticks = interval(TURN);
            loop {
                ticks.tick().await;
                if let Some(address) = addresses.iter().max_by_key(|_address| Uuid::new_v4()) {
                    balancer.turn_to(*address);
                }
            }
        };
        let side = Side::new(&team, ApiVersion::V1Beta2);
        let written = tokio::select! {
            written = written(&side) => written?,
            () = turning => anyhow::bail!("nobody turns any more"),
        };
        for replica in &others {
            assert!(answered(replica).await? > 0, "{} was not asked", replica.name());
        }
        let counts: Vec<usize> = written.values().map(Vec::len).collect();
        println!("writes to each Secret within {:?}: {counts:?}", window());
        assert_eq!(written.len(), BINDINGS as usize);
        for (name, writes) in &written {
            judge(name, writes);
        }
        syncer.stop().await;
        Ok(())
    })
}

/// A syncer of the test's own, which knows the replicas by one address.
async fn syncer_of(stack: &Stack, balancer: &Balancer) -> anyhow::Result<Pod> {
    let arguments = [
        format!("--broker-address=https://localhost:{}", balancer.address().port()),
        format!("--label-selector={ELSEWHERE}=replicas"),
        // Otherwise it would stand by: the stack's syncer holds the Lease.
        "--leader-elect=false".to_owned(),
    ];
    stack
        .syncer()
        .another("acrpull-syncer-replicas", &arguments)
        .await
}

/// Every write to every Secret, from its creation on, for two refresh periods.
async fn written(side: &Side<'_>) -> anyhow::Result<BTreeMap<String, Vec<Written>>> {
    let secrets = side.team.api::<Secret>();
    let params = WatchParams::default().labels("acr.microsoft.com/binding");
    let window = window();
    let changes = secrets.watch(&params, "0").await?;
    let changes = changes.take_until(tokio::time::sleep(window));
    let watching = changes.try_fold(
        BTreeMap::<String, Vec<Written>>::new(),
        async |mut written, change| {
            if let WatchEvent::Added(secret) | WatchEvent::Modified(secret) = change {
                let name = secret.name_any();
                let secret = PullSecret::read(secret)
                    .map_err(|error| kube::Error::Service(format!("{error:#}").into()))?;
                let expiry = secret.annotation("acr.microsoft.com/token.expiry");
                let expiry = expiry.and_then(|expiry| expiry.parse().ok()).unwrap_or_default();
                written
                    .entry(name)
                    .or_default()
                    .push((secret.docker_config, expiry));
            }
            Ok(written)
        },
    );
    let creating = async {
        let mut ticks = interval(APART);
        for number in 0..BINDINGS {
            ticks.tick().await;
            let spec = side.spec_for(&SHORT_LIVED, ACCOUNT, SCOPE);
            side.create_labelled(&format!("b{number}"), &spec, &[(ELSEWHERE, "replicas")])
                .await?;
        }
        anyhow::Ok(())
    };
    let (written, created) = tokio::join!(watching, creating);
    created?;
    Ok(written?)
}

/// Long enough for two periods of the slowest binding.
fn window() -> Duration {
    APART * BINDINGS + Duration::from_secs(PERIOD_S.1 * PERIODS)
}

fn judge(name: &str, writes: &[Written]) {
    let tokens: Vec<Timestamp> = writes.iter().map(|(_payload, expiry)| *expiry).collect();
    assert!(
        tokens.is_sorted(),
        "{name} got a token that expires earlier: {tokens:?}"
    );
    let payloads: BTreeSet<&str> = writes.iter().map(|(payload, _expiry)| &**payload).collect();
    assert_eq!(
        payloads.len(),
        writes.len(),
        "{name} was written without need: {tokens:?}"
    );
    // The first token, and as many more as the fastest binding has periods in that time.
    let most = 1 + window().as_secs() / PERIOD_S.0;
    let count = writes.len() as u64;
    assert!(count <= most, "{name} was written {count} times: {tokens:?}");
    // On a busy machine the last renewal may come after the window.
    assert!(count >= PERIODS, "{name} was renewed too seldom: {tokens:?}");
}

/// How many requests a replica has answered.
async fn answered(replica: &Pod) -> anyhow::Result<u64> {
    let metrics = replica.metrics().await?;
    let counters = metrics
        .lines()
        .filter(|line| line.starts_with("acrpull_broker_requests_total{"));
    Ok(counters
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum())
}
