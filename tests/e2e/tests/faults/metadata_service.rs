//! The metadata service bears five calls at a time and 20 a second from a whole machine: the broker stays far below.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use azure_simulator::{Action, Operation, Service};
use e2e::rig::Caller;
use e2e::{Rig, Site};
use futures::future::try_join_all;
use proto::Reason;
use tokio::time::Instant;

use crate::row::Hop;

const IDENTITIES: usize = 40;
const BINDINGS_EACH: usize = 5;
/// What the broker allows itself: in flight, and starts in any second.
const IN_FLIGHT: usize = 4;
const STARTS_PER_SECOND: usize = 10;
/// A call takes as long as on a real machine.
const LATENCY_MS: u64 = 100;
/// A tenth of a second each would be 4 s; whoever is told to ask again later gets the time.
const ALL_SERVED: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u3_two_hundred_cold_bindings_stay_within_what_the_metadata_service_bears() -> anyhow::Result<()> {
    let rig = cold("cold-identities").await?;
    ask_for_all(&rig).await?;
    ensure_within_limits(&rig)?;
    let calls = rig.azure().calls().of(Service::Imds, Operation::Token);
    ensure!(
        calls.count() == IDENTITIES,
        "{} calls for {IDENTITIES} identities",
        calls.count()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u3_throttled_metadata_service_is_left_alone_and_serves_all_in_the_end() -> anyhow::Result<()> {
    const PAUSE_S: i64 = 2;
    let rig = cold("throttled-identities").await?;
    let site = rig.sites().get(IDENTITIES / 4).context("there are enough")?;
    let throttle = Hop::Imds.fault(site, Action::throttle_s(PAUSE_S)).times(1);
    rig.azure().add_fault(throttle)?;
    ask_for_all(&rig).await?;
    ensure_within_limits(&rig)?;
    let calls = rig.azure().calls().of(Service::Imds, Operation::Token);
    let pause = calls.entries().iter().find(|call| call.status == Some(429));
    let paused_from = pause
        .and_then(azure_simulator::LogEntry::answered_at)
        .context("nothing was throttled")?;
    let paused_until = paused_from + jiff::SignedDuration::from_secs(PAUSE_S);
    let early = calls.filter(|call| call.at_real > paused_from && call.at_real < paused_until);
    ensure!(early.is_empty(), "{} calls came early", early.count());
    Ok(())
}

async fn cold(name: &str) -> anyhow::Result<Rig> {
    let names = (0..IDENTITIES).map(|number| format!("i{number}"));
    let rig = Rig::start(name, names).await?;
    rig.azure().update(|state| {
        state.latency_ms.insert(Service::Imds, LATENCY_MS);
    })?;
    Ok(rig)
}

async fn ask_for_all(rig: &Rig) -> anyhow::Result<()> {
    let broker = rig.broker("broker").await?;
    let caller = rig.caller(&broker)?;
    let bindings = rig
        .sites()
        .iter()
        .flat_map(|site| (0..BINDINGS_EACH).map(move |number| (site, number)));
    let served = try_join_all(bindings.map(|(site, number)| ask_until_served(&caller, site, number)));
    served
        .await
        .map(|_served| ())
        .inspect_err(|_error| rig.keep_logs())
}

/// As the syncer does: asks again when it is told to.
async fn ask_until_served(caller: &Caller, site: &Site, binding: usize) -> anyhow::Result<()> {
    let mut request = site.broker_owned();
    request.scopes = vec![format!("repository:team/app{binding}:pull")];
    let end = Instant::now() + ALL_SERVED;
    loop {
        let Err(refusal) = caller.ask(&request).await? else {
            return Ok(());
        };
        let is_a_wait = matches!(refusal.reason, Reason::Overloaded | Reason::UpstreamThrottled);
        ensure!(is_a_wait, "{}: {refusal:?}", site.name);
        ensure!(Instant::now() < end, "{} was not served: {refusal:?}", site.name);
        let wait = refusal.retry_after;
        tokio::time::sleep(wait.with_context(|| format!("no word on when to ask again: {refusal:?}"))?).await;
    }
}

fn ensure_within_limits(rig: &Rig) -> anyhow::Result<()> {
    let calls = rig.azure().calls().of(Service::Imds, Operation::Token);
    let most = calls.max_concurrency();
    ensure!(most <= IN_FLIGHT, "{most} calls were in flight");
    let counted = rig
        .azure()
        .counters()
        .max_in_flight(Service::Imds, Operation::Token);
    ensure!(
        counted <= u64::try_from(IN_FLIGHT)?,
        "{counted} calls were in flight by the simulator's count"
    );
    let starts: Vec<_> = calls.entries().iter().map(|call| call.at_real).collect();
    for window in starts.windows(STARTS_PER_SECOND + 1) {
        if let [first, .., last] = window {
            let span = Duration::try_from(last.duration_since(*first))?;
            ensure!(
                span >= Duration::from_secs(1),
                "{} calls within {span:?}",
                window.len()
            );
        }
    }
    Ok(())
}
