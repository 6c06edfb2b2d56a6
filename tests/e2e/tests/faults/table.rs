//! The whole fault table against real brokers, all rows at once, and beside it the scenarios that take their time.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{Broker, Rig};
use futures::future::{join, join_all};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::play::{HEALTHY, play};
use crate::row::{CANARY, Hop};
use crate::rows::{self, THIEF};
use crate::scenarios;

/// A secret shorter than this is no secret; a fault has made it up.
const LEAST_SECRET: usize = 20;

/// No row waits longer for others to be served beside the silent ones: by then a deadline has ended those.
const BESIDE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_azure_are_answered_as_promised_and_healed_from() -> anyhow::Result<()> {
    let rows = rows::all();
    let names = rows.iter().map(|row| row.name.clone());
    let others = std::iter::once(HEALTHY)
        .chain(scenarios::NAMES)
        .map(str::to_owned);
    let rig = Rig::start("fault-table", names.chain(others)).await?;
    rig.azure().update(|state| {
        // One machine for each broker: what these rows are about is not how often it may be asked.
        state.vm.imds_rps = 10_000;
        state.vm.imds_concurrency = 1_000;
    })?;
    let shared = rig.broker("broker").await?;
    let caller = rig.caller(&shared)?;

    // What is silent comes first: others are served beside it, and that must not depend on how busy this machine is.
    let silent = rows.iter().filter(|row| row.is_silent()).count();
    let served_beside = Semaphore::new(0);
    let played = rows.iter().map(async |row| {
        if !row.is_silent() {
            let all = u32::try_from(silent).context("more rows than there are numbers")?;
            drop(timeout(BESIDE, served_beside.acquire_many(all)).await);
        }
        if row.hop != Hop::Imds {
            return play(row, &rig, caller.clone(), &served_beside).await;
        }
        // A throttled or silent metadata service is so for all identities of a broker.
        let own = rig.broker(&row.name).await?;
        play(row, &rig, rig.caller(&own)?, &served_beside).await?;
        ensure_no_leak(&rig, &own)
    });
    let (played, scenarios) = join(join_all(played), scenarios::play_all(&rig, &caller)).await;
    let names = rows.iter().map(|row| &*row.name);
    let failed: Vec<String> = names
        .zip(played)
        .chain(scenarios)
        .filter_map(|(name, result)| Some(format!("{name}: {:#}", result.err()?)))
        .collect();
    let thief = rig.azure().calls().host(THIEF).count();
    ensure_no_leak(&rig, &shared)?;
    if !failed.is_empty() || thief > 0 {
        rig.keep_logs();
    }
    assert_eq!(thief, 0, "a redirect was followed");
    assert!(
        failed.is_empty(),
        "{} of {} failed:\n{}",
        failed.len(),
        rows.len() + scenarios::NAMES.len() + 1,
        failed.join("\n")
    );
    Ok(())
}

/// At the level at which it logs the most, a broker shows neither what Azure wrote nor a secret.
fn ensure_no_leak(rig: &Rig, broker: &Broker) -> anyhow::Result<()> {
    let logs = broker.logs()?;
    ensure!(!logs.contains(CANARY), "Azure's own words are in the log");
    for issued in rig.azure().issued() {
        let is_secret = issued.secret.len() >= LEAST_SECRET;
        ensure!(
            !is_secret || !logs.contains(&issued.secret),
            "an {} of {} is in the log",
            issued.kind,
            issued.subject
        );
    }
    Ok(())
}
