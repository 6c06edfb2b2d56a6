//! The whole fault table against real brokers, all rows at once, and beside it the scenarios that take their time.

use anyhow::ensure;
use azure_simulator::{Operation, Service};
use e2e::rig::Caller;
use e2e::{Broker, Rig};
use futures::future::{join, join_all};

use crate::play::{HEALTHY, Stage, play};
use crate::row::{CANARY, Company, Row};
use crate::rows::{self, THIEF};
use crate::scenarios;

/// A secret shorter than this is no secret; a fault has made it up.
const LEAST_SECRET: usize = 20;

/// Rows that break the metadata service for a moment, on one broker.
const TURNS: usize = 5;

/// A name, and what came of it.
type Outcome = (String, anyhow::Result<()>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_azure_are_answered_as_promised_and_healed_from() -> anyhow::Result<()> {
    let rows = rows::all();
    let others = std::iter::once(HEALTHY)
        .chain(scenarios::NAMES)
        .map(str::to_owned);
    let names = rows.iter().map(|row| row.name.clone());
    let rig = Rig::start("fault-table", names.chain(others)).await?;
    rig.azure().update(|state| {
        // One machine for each broker: what these rows are about is not how often it may be asked.
        state.vm.imds_rps = 10_000;
        state.vm.imds_concurrency = 1_000;
    })?;
    let shared = rig.broker("broker").await?;
    let caller = rig.caller(&shared)?;
    let stage = Stage::new(&rig, &rows);

    let of = |company| {
        rows.iter()
            .filter(move |row| row.company() == company)
            .collect::<Vec<_>>()
    };
    let (alone, turns, everyone) = (of(Company::Alone), of(Company::Turns), of(Company::Everyone));
    let apart = alone.chunks(1).chain(turns.chunks(TURNS));
    let apart = join_all(apart.map(|rows| play_apart(rows, &stage)));
    let together = join_all(everyone.chunks(1).map(|rows| play_in_turn(rows, &stage, &caller)));
    let played = Box::pin(join(apart, together));
    let (played, scenarios) = join(played, Box::pin(scenarios::play_all(&stage, &caller))).await;
    let rows = played.0.into_iter().chain(played.1).flatten();
    let whole = [
        ("redirects".to_owned(), ensure_nothing_stolen(&rig)),
        ("log".to_owned(), ensure_no_leak(&rig, &shared)),
    ];
    let failed: Vec<String> = rows
        .chain(scenarios)
        .chain(whole)
        .filter_map(|(name, result)| Some(format!("{name}: {:#}", result.err()?)))
        .collect();
    if !failed.is_empty() {
        rig.keep_logs();
    }
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
    Ok(())
}

/// On a broker of their own.
async fn play_apart(rows: &[&Row], stage: &Stage<'_>) -> Vec<Outcome> {
    let name = rows.first().map_or("nobody", |row| &*row.name);
    if rows.iter().all(|row| !row.is_silent()) {
        stage.after_the_silent().await;
    }
    let broker = stage
        .at_work(stage.rig.broker(name))
        .await
        .and_then(|broker| Ok((stage.rig.caller(&broker)?, broker)));
    match broker {
        Ok((caller, broker)) => {
            let mut played = play_in_turn(rows, stage, &caller).await;
            played.push((format!("log of {name}"), ensure_no_leak(stage.rig, &broker)));
            played
        }
        Err(error) => vec![(name.to_owned(), Err(error))],
    }
}

async fn play_in_turn(rows: &[&Row], stage: &Stage<'_>, caller: &Caller) -> Vec<Outcome> {
    let mut played = Vec::new();
    for row in rows {
        played.push((row.name.clone(), play(row, stage, caller).await));
    }
    played
}

fn ensure_nothing_stolen(rig: &Rig) -> anyhow::Result<()> {
    let calls = rig.azure().calls().host(THIEF).count();
    ensure!(calls == 0, "{calls} redirects were followed");
    // A challenge could name another host; who asks for none cannot be misled by one.
    let challenges = rig.azure().calls().of(Service::Acr, Operation::Challenge).count();
    ensure!(challenges == 0, "{challenges} challenges were asked for");
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
