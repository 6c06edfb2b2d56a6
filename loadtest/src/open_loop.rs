//! Open-loop load: requests start at the times of a fixed rate, however many are still waiting for their answers, and a
//! latency counts from the moment at which its request was due. A server that stalls cannot slow the load down, so no
//! latency is left out ("coordinated omission").

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::latencies::Latencies;
use crate::questions::Question;
use crate::refusal::Refusal;
use crate::target::Ask;

/// How many requests, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) per_second: u32,
    pub(crate) length: Duration,
}

/// What came of one request.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    /// Which one it was, counted from 0.
    pub(crate) number: u32,
    /// From the moment at which it was due.
    latency: Duration,
    /// By how much the load generator itself was late.
    lateness: Duration,
    refusal: Option<Refusal>,
}

/// What came of all requests of a round, or of some of them.
pub(crate) struct Round {
    asked: u64,
    served: Latencies,
    refused: Latencies,
    lateness: Latencies,
}

impl Schedule {
    /// Requests in all.
    pub(crate) fn requests(self) -> u32 {
        u32::try_from(self.length.as_millis() * u128::from(self.per_second) / 1000).unwrap_or(u32::MAX)
    }

    fn due(self, number: u32) -> Duration {
        Duration::from_secs(number.into()) / self.per_second
    }
}

/// Asks `question(n)` for every request `n` of the schedule over these connections in turn, and waits for all answers.
/// Ends early when there is no question.
///
/// # Errors
/// An answer is not what it must be, or none came.
pub(crate) async fn put<A: Ask>(
    connections: &[A],
    schedule: Schedule,
    question: impl Fn(u32) -> Option<Question> + Send + 'static,
) -> anyhow::Result<Vec<Answered>> {
    let connections = connections.to_vec();
    let started = tokio::task::spawn_blocking(move || start_all(&connections, schedule, question)).await;
    let mut requests = started.context("the load generator ended")?;
    let mut answers = Vec::with_capacity(requests.len());
    while let Some(request) = requests.join_next().await {
        answers.push(request.context("a request was lost")??);
    }
    ensure!(!answers.is_empty(), "nothing was asked");
    Ok(answers)
}

#[expect(
    clippy::disallowed_methods,
    reason = "no thread of the executor: a thread of its own keeps time to some 60 µs, a runtime's timer to 1 ms"
)]
fn start_all<A: Ask>(
    connections: &[A],
    schedule: Schedule,
    question: impl Fn(u32) -> Option<Question>,
) -> JoinSet<anyhow::Result<Answered>> {
    let mut requests = JoinSet::new();
    let start = Instant::now();
    for (number, connection) in (0..schedule.requests()).zip(connections.iter().cycle()) {
        let Some(question) = question(number) else { break };
        let due = start + schedule.due(number);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        requests.spawn(ask(connection.clone(), question, number, due));
    }
    requests
}

async fn ask(
    connection: impl Ask,
    question: Question,
    number: u32,
    due: Instant,
) -> anyhow::Result<Answered> {
    let lateness = due.elapsed();
    let answer = connection.ask(question.message.clone()).await;
    let latency = due.elapsed();
    let refusal = match answer {
        Ok(answer) => {
            question.check(&answer)?;
            None
        }
        Err(error) => Some(Refusal::of(error)?),
    };
    Ok(Answered {
        number,
        latency,
        lateness,
        refusal,
    })
}

impl Round {
    /// Sums up.
    pub(crate) fn of<'a>(answers: impl IntoIterator<Item = &'a Answered>) -> anyhow::Result<Self> {
        let mut round = Self {
            asked: 0,
            served: Latencies::new()?,
            refused: Latencies::new()?,
            lateness: Latencies::new()?,
        };
        for answer in answers {
            round.asked += 1;
            let latencies = match answer.refusal {
                None => &mut round.served,
                Some(_) => &mut round.refused,
            };
            latencies.record(answer.latency)?;
            round.lateness.record(answer.lateness)?;
        }
        Ok(round)
    }

    /// Requests that were answered, one way or the other.
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    /// Of the requests that got a payload.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        self.served.ms(quantile)
    }

    /// Of the requests that got none.
    pub(crate) fn refusal_ms(&self, quantile: f64) -> f64 {
        self.refused.ms(quantile)
    }

    /// How late the load generator was.
    pub(crate) fn lateness_ms(&self, quantile: f64) -> f64 {
        self.lateness.ms(quantile)
    }

    /// Requests that got a payload, of all.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a short run are far below 2^52"
    )]
    pub(crate) fn served_percent(&self) -> f64 {
        self.served.count() as f64 * 100.0 / self.asked.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::Reason;
    use proto::v1::{GetDockerConfigRequest, GetDockerConfigResponse};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::questions::Topic;

    /// Answers nobody before everybody has asked.
    #[derive(Clone)]
    struct Stalled {
        asked: Arc<Semaphore>,
        until: u32,
    }

    impl Ask for Stalled {
        async fn ask(&self, _message: GetDockerConfigRequest) -> anyhow::Result<GetDockerConfigResponse> {
            self.asked.add_permits(1);
            drop(self.asked.acquire_many(self.until).await?);
            Ok(GetDockerConfigResponse {
                docker_config_json: "{}".into(),
                ..GetDockerConfigResponse::default()
            })
        }
    }

    fn question(number: u32) -> Question {
        let topic = Topic {
            namespace: "n",
            account: "a",
            registry: "r.azurecr.io",
        };
        topic.broker_owned(number, "id")
    }

    #[test]
    fn schedule_spreads_requests_evenly() {
        let schedule = Schedule {
            per_second: 40,
            length: Duration::from_millis(1_500),
        };
        assert_eq!(schedule.requests(), 60);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(59), Duration::from_millis(1_475));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_start_while_earlier_ones_wait_and_count_from_when_they_were_due() {
        let schedule = Schedule {
            per_second: 1_000,
            length: Duration::from_millis(50),
        };
        let server = Stalled {
            asked: Arc::new(Semaphore::new(0)),
            until: schedule.requests(),
        };
        let mut answers = put(&[server], schedule, |number| Some(question(number)))
            .await
            .unwrap();
        answers.sort_by_key(|answered| answered.number);
        // The first was due 49 ms before the last was even asked.
        let [first, .., last] = answers.as_slice() else {
            panic!("{} answers", answers.len());
        };
        assert_eq!((answers.len(), last.number), (50, 49));
        assert!(first.latency >= Duration::from_millis(49), "{:?}", first.latency);
    }

    #[test]
    fn round_counts_refused_requests_and_leaves_them_out_of_the_latencies() {
        let answered = |refusal| Answered {
            number: 0,
            latency: Duration::from_millis(5),
            lateness: Duration::ZERO,
            refusal,
        };
        let refused = Answered {
            latency: Duration::from_millis(900),
            ..answered(Some(Refusal {
                reason: Reason::UpstreamThrottled,
                retry_after: None,
            }))
        };
        let answers = [answered(None), refused, answered(None), answered(None)];
        let round = Round::of(&answers).unwrap();
        assert!((round.served_percent() - 75.0).abs() < f64::EPSILON);
        assert!(round.latency_ms(1.0) < 6.0);
        assert!(round.refusal_ms(0.5) > 800.0);
        assert_eq!(round.asked(), 4);
    }
}
