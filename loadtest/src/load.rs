//! Closed-loop load: so many workers, each of which asks as soon as it has its answer, until the time is up or there
//! is nothing left to ask. Every answer is checked: an answer without the right payload ends the run.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use proto::v1::GetDockerConfigResponse;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::process::ProcessUse;
use crate::questions::{Question, Questions};
use crate::target::Ask;

/// Digits of latencies that are kept.
const LATENCY_DIGITS: u8 = 3;

/// What a server did for a while.
pub(crate) struct Measurement {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// Time of the server's process, all threads.
    pub(crate) cpu: Duration,
    /// In microseconds.
    latencies: Histogram<u64>,
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
    let mut latencies = Histogram::new(LATENCY_DIGITS)?;
    while let Some(worker) = workers.join_next().await {
        latencies.add(worker.context("a worker ended")??)?;
    }
    let elapsed = started.elapsed();
    let cpu = ProcessUse::of(pid)?.cpu.saturating_sub(before.cpu);
    let requests = latencies.len();
    ensure!(requests > 0, "no question was answered within {limit:?}");
    Ok(Measurement {
        requests,
        elapsed,
        cpu,
        latencies,
    })
}

async fn work(connection: impl Ask, questions: Questions, end: Instant) -> anyhow::Result<Histogram<u64>> {
    let mut latencies = Histogram::new(LATENCY_DIGITS)?;
    while Instant::now() < end {
        let Some(question) = questions.next() else { break };
        let asked = Instant::now();
        let answer = connection.ask(question.message.clone()).await?;
        latencies.record(u64::try_from(asked.elapsed().as_micros())?)?;
        check(question, &answer)?;
    }
    Ok(latencies)
}

/// A full hit hands out the payload: nothing less counts.
fn check(question: &Question, answer: &GetDockerConfigResponse) -> anyhow::Result<()> {
    ensure!(
        !answer.not_modified && !answer.degraded,
        "the answer is not a full hit"
    );
    ensure!(
        !answer.docker_config_json.is_empty() && answer.docker_config_json == question.payload,
        "the answer has another payload than the first one to this question"
    );
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and microseconds of a short run are far below 2^52"
)]
impl Measurement {
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn cpu_microseconds_per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests as f64
    }

    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }
}
