//! Closed-loop load: so many workers, each of which asks as soon as it has its answer, until the time is up or there
//! is nothing left to ask. Every answer is checked: an answer without the right payload ends the run.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::latencies::Latencies;
use crate::process::ProcessUse;
use crate::questions::Questions;
use crate::target::Ask;

/// What a server did for a while.
pub(crate) struct Measurement {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// Time of the server's process, all threads.
    pub(crate) cpu: Duration,
    latencies: Latencies,
}

/// Puts load on the server with this process id, over these connections.
///
/// # Errors
/// A question was not answered as it must be, or none was.
pub(crate) async fn put<A: Ask>(
    pid: u32,
    connections: &[A],
    questions: &Questions,
    in_flight: usize,
    limit: Duration,
) -> anyhow::Result<Measurement> {
    let before = ProcessUse::of(pid)?;
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for connection in connections.iter().cycle().take(in_flight) {
        workers.spawn(work(connection.clone(), questions.clone(), started + limit));
    }
    let mut latencies = Latencies::new()?;
    while let Some(worker) = workers.join_next().await {
        latencies.add(&worker.context("a worker ended")??)?;
    }
    let elapsed = started.elapsed();
    let cpu = ProcessUse::of(pid)?.cpu.saturating_sub(before.cpu);
    let requests = latencies.count();
    ensure!(requests > 0, "no question was answered within {limit:?}");
    Ok(Measurement {
        requests,
        elapsed,
        cpu,
        latencies,
    })
}

async fn work(connection: impl Ask, questions: Questions, end: Instant) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new()?;
    while Instant::now() < end {
        let Some(question) = questions.next() else { break };
        let asked = Instant::now();
        let answer = connection.ask(question.message.clone()).await?;
        latencies.record(asked.elapsed())?;
        question.check(&answer)?;
    }
    Ok(latencies)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a short run are far below 2^52"
)]
impl Measurement {
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn cpu_microseconds_per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests as f64
    }

    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        self.latencies.ms(quantile)
    }
}
