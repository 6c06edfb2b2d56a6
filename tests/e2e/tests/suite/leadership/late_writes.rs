//! Writes that are still on their way when their sender is lost, and arrive after the successor's. The server refuses them
//! for the version that each names: both have the same field manager, and the one that came last would win.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use azure_simulator::{Action, Fault, Operation, Service};
use e2e::{Machine, Pod, Stack, Valve, poll, wait_for};
use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::json;
use syncer::binding::ApiVersion;

use super::{AT_ONCE, EXPIRED, REPLICAS, holder, is_of, leads, takes_over};
use crate::shared::{EITHER_API, alone};
use crate::side::{ACCOUNT, OWN, Side};

/// How long Azure takes for a token: time enough to close the valve before the answer is written.
const SLOW: Duration = Duration::from_secs(3);
/// Azure answers all of them in the same moment: the last write follows the first.
const FOLLOWED: Duration = Duration::from_secs(1);
/// Of a binding of each API: one Secret that is there, with a token for another scope, and one that is not there yet.
#[test]
fn write_that_a_lost_leader_left_on_its_way_is_refused_when_it_arrives_after_its_successors()
-> anyhow::Result<()> {
    alone(async |stack| {
        let address = stack.plane().api_server_url().trim_start_matches("https://");
        let valve = Valve::start(address.parse().context("the API server's address")?).await?;
        let machine = Machine {
            api_server: Some(valve.address()),
            ..Machine::default()
        };
        stack.syncer().stop().await;
        let first = stack
            .syncer()
            .elsewhere(machine, "acrpull-syncer-lost", &[])
            .await?;
        let result = play(stack, &first, &valve).await;
        first.stop().await;
        stack.syncer().start().await?;
        takes_over(stack.syncer(), EXPIRED).await?;
        result
    })
}

async fn play(stack: &Stack, first: &Pod, valve: &Valve) -> anyhow::Result<()> {
    takes_over(first, EXPIRED).await?;
    let second = stack
        .syncer()
        .replica(REPLICAS.fetch_add(1, Ordering::Relaxed))
        .await?;
    let team = stack.team(EITHER_API.prefix).await?;
    team.create_account(ACCOUNT, &[OWN], &[]).await?;
    let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
    let mut payload = 0;
    for side in &sides {
        let spec = side.spec(ACCOUNT, &scope(side, "changed"));
        side.create("changed", &spec).await?;
        side.ready("changed").await?;
        payload = side.secret("changed").await?.docker_config.len();
    }

    // All are asked for, and before Azure answers the way to the API server is stopped up.
    slow_down(stack).await?;
    let asked_before = asked(stack).await?;
    for side in &sides {
        let spec = side.spec(ACCOUNT, &scope(side, "changed-again"));
        side.patch("changed", &json!({ "spec": spec })).await?;
        side.create("new", &side.spec(ACCOUNT, &scope(side, "new")))
            .await?;
    }
    let writes = 2 * sides.len();
    wait_for("Azure is asked", AT_ONCE, async || {
        Ok(asked(stack).await? >= asked_before + writes)
    })
    .await?;
    valve.close();
    wait_for("writes are on their way", 2 * SLOW, async || {
        Ok(valve.held() >= writes * payload)
    })
    .await?;
    tokio::time::sleep(FOLLOWED).await;
    first.signal(Signal::KILL);

    takes_over(&second, EXPIRED).await?;
    let mut written = Vec::new();
    for side in &sides {
        for (name, asked_for) in [("changed", "changed-again"), ("new", "new")] {
            let asked_for = scope(side, asked_for);
            side.wait(name, "has its token", |status| {
                status.granted_scope.as_ref() == Some(&asked_for)
            })
            .await?;
            written.push((side, name, side.secret(name).await?.version()));
        }
    }
    let refused_before = refused(stack).await?;
    valve.open();
    poll(
        "the late writes have arrived and are refused",
        AT_ONCE,
        async || {
            let refused = refused(stack).await?.saturating_sub(refused_before);
            Ok((refused >= writes).then_some(()).ok_or(refused))
        },
    )
    .await?;
    for (side, name, version) in &written {
        let now = side.secret(name).await?.version();
        assert_eq!(now, *version, "{} {name} was written", side.api.as_str());
    }
    // A renewal of the Lease may have been among what came late.
    assert!(is_of(&holder(stack).await?, &second) && leads(&second).await?);
    second.stop().await;
    Ok(())
}

/// A token of its own for each.
fn scope(side: &Side<'_>, name: &str) -> String {
    format!("repository:team/late-{}-{name}:pull", side.api.version())
}

/// Whoever asks for a token from now on waits for it, until long after the writes of this test.
async fn slow_down(stack: &Stack) -> anyhow::Result<()> {
    let latency = Action::Latency {
        ms: u64::try_from(SLOW.as_millis())?,
        jitter_ms: 0,
    };
    let slow = Fault {
        to: Some(Timestamp::now() + SignedDuration::try_from(3 * SLOW)?),
        ..Fault::new(latency).on(Service::Acr, Operation::Token)
    };
    stack.azure().add_fault(slow.host(EITHER_API.registry)).await
}

/// How many tokens Azure was asked for.
async fn asked(stack: &Stack) -> anyhow::Result<usize> {
    let calls = stack.azure().calls().await?.of(Service::Acr, Operation::Token);
    Ok(calls.host(EITHER_API.registry).count())
}

/// Writes of Secrets that the API server has refused because they were not decided on what is there.
async fn refused(stack: &Stack) -> anyhow::Result<usize> {
    let metrics = stack.plane().kubectl(&["get", "--raw", "/metrics"]).await?;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"));
    let conflicts = lines.filter(|line| {
        let labels = ["code=\"409\"", "resource=\"secrets\"", "verb=\"APPLY\""];
        labels.iter().all(|label| line.contains(label))
    });
    Ok(conflicts
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok())
        .sum())
}
