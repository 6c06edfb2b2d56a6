//! Ten registries, one of which is ill (guarantee U1): what the callers of the other nine notice. Every request is a miss,
//! because hits never reach a registry.
//!
//! Rounds with a healthy tenth registry take turns with rounds in which it throttles and rounds in which it is silent. The
//! tenth is another one in each round, so that none is judged by what happened to it before.

use std::time::Duration;

use azure_simulator::{Action, Fault, HangAt};
use e2e::Stack;

use crate::azure_calls::AzureCalls;
use crate::open_loop::{self, Round, Schedule};
use crate::questions::{Question, Topic};
use crate::report::{Figure, Goal, Group, Part, progress};
use crate::rounds::{beside, median};
use crate::scene;
use crate::target::{Target, learn};

/// Rounds of each kind.
const ROUNDS: usize = 3;
/// Registries that are always well.
const STEADY: usize = 9;
/// Ten requests a second for each of ten registries.
const SCHEDULE: Schedule = Schedule {
    per_second: 100,
    length: Duration::from_secs(4),
};
/// Questions to each registry before the rounds, at a time: as many connections as a round needs.
const WARM_UP: u32 = 4;
/// `Retry-After` of the registry that throttles: longer than a round.
const RETRY_AFTER_SECONDS: i64 = 60;
/// Longest that the other nine may be slowed down (guarantee U1).
const RATIO: f64 = 1.1;
/// Least share of their requests that must be served, in percent (guarantee U1).
const SERVED_PERCENT: f64 = 99.9;

/// How the tenth registry fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tenth {
    Healthy,
    Throttles,
    IsSilent,
}

const TENTHS: [Tenth; 3] = [Tenth::Healthy, Tenth::Throttles, Tenth::IsSilent];

/// One round.
struct Measured {
    nine: Round,
    tenth: Round,
    /// Calls to the tenth registry.
    calls: u64,
}

struct Isolation<'a> {
    stack: &'a Stack,
    broker: Target,
    hosts: Vec<String>,
}

impl Tenth {
    fn fault(self, host: &str) -> Option<Fault> {
        let action = match self {
            Self::Healthy => return None,
            Self::Throttles => Action::throttle_s(RETRY_AFTER_SECONDS),
            Self::IsSilent => Action::Hang {
                at: HangAt::BeforeHeaders,
            },
        };
        Some(Fault::new(action).host(host))
    }

    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Healthy => ("healthy", "the tenth is healthy"),
            Self::Throttles => ("throttled", "the tenth answers 429 with Retry-After 60"),
            Self::IsSilent => ("silent", "the tenth never answers"),
        }
    }
}

/// Those that are always well, and a tenth for each round.
pub(crate) fn registries() -> Vec<String> {
    scene::registries("isolation", STEADY + ROUNDS * TENTHS.len())
}

/// Measures all kinds of rounds.
///
/// # Errors
/// A part failed, or the broker said something that is no answer.
pub(crate) async fn measure(stack: &Stack) -> anyhow::Result<Part> {
    let isolation = Isolation {
        stack,
        broker: Target::broker(stack).await?,
        hosts: registries(),
    };
    // Refresh tokens and connections are there before anything is measured.
    let first = isolation.hosts.iter().flat_map(|host| {
        let numbers = (0..WARM_UP).map(|number| u32::MAX - number);
        numbers.map(move |number| question(host, number))
    });
    learn(&isolation.broker, &mut first.collect::<Vec<_>>()).await?;
    let mut measured: [Vec<Measured>; 3] = Default::default();
    let tenths = isolation.hosts.iter().skip(STEADY);
    // Each kind comes first once: what a round leaves behind is not always another kind's.
    let rotated = |round| TENTHS.into_iter().enumerate().cycle().skip(round);
    let kinds = (0..ROUNDS).flat_map(|round| rotated(round).take(TENTHS.len()));
    for (number, (host, (kind, tenth))) in (0_u32..).zip(tenths.zip(kinds)) {
        let (_, what) = tenth.describe();
        progress(&format!("isolation: {what}"));
        if let Some(rounds) = measured.get_mut(kind) {
            rounds.push(isolation.round(number, host, tenth).await?);
        }
    }
    let [healthy, throttled, silent] = &measured;
    Ok(Part {
        title: "Isolation: misses of ten registries, ten a second for each, 100 ms per Azure call",
        baseline: "ten healthy",
        notes: vec!["Each miss costs one call to its registry; all share one identity and one broker."],
        groups: vec![
            group(Tenth::Throttles, throttled, healthy),
            group(Tenth::IsSilent, silent, healthy),
        ],
    })
}

impl Isolation<'_> {
    async fn round(&self, number: u32, tenth_host: &str, tenth: Tenth) -> anyhow::Result<Measured> {
        let azure = self.stack.azure();
        let before = AzureCalls::to(azure, tenth_host).await?;
        if let Some(fault) = tenth.fault(tenth_host) {
            azure.add_fault(fault).await?;
        }
        let mut hosts: Vec<String> = self.hosts.iter().take(STEADY).cloned().collect();
        hosts.push(tenth_host.to_owned());
        let asked = move |request: u32| {
            let host = hosts.get(request as usize % hosts.len())?;
            Some(question(host, number * SCHEDULE.requests() + request))
        };
        let answers = open_loop::put(&self.broker.grpc, SCHEDULE, asked).await?;
        azure.admin().clear_faults().await?;
        let is_tenth = |number: u32| number as usize % (STEADY + 1) == STEADY;
        let (tenth, nine): (Vec<_>, Vec<_>) = answers.iter().partition(|answered| is_tenth(answered.number));
        Ok(Measured {
            nine: Round::of(nine)?,
            tenth: Round::of(tenth)?,
            calls: AzureCalls::to(azure, tenth_host).await? - before,
        })
    }
}

/// Question `number` to a registry: for a scope of its own, by a namespace of the registry's own.
fn question(host: &str, number: u32) -> Question {
    let name = host.trim_end_matches(".azurecr.io");
    let topic = Topic {
        namespace: &format!("{}-{name}", scene::NAMESPACE_PREFIX),
        account: "web",
        registry: host,
    };
    topic.broker_owned(number, &scene::broker_owned_identity().client_id)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a short run are far below 2^52"
)]
fn group(tenth: Tenth, ill: &[Measured], healthy: &[Measured]) -> Group {
    let figure = |name: &str, unit, of: fn(&Measured) -> f64| beside(name, unit, (ill, healthy), of);
    let (id, title) = tenth.describe();
    let refusal = median(ill.iter().map(|measured| measured.tenth.refusal_ms(0.5)));
    Group {
        title: title.to_owned(),
        id: format!("isolation/{id}"),
        figures: vec![
            figure("the nine: served", "%", |measured| measured.nine.served_percent())
                .with_goal(Goal::AtLeast(SERVED_PERCENT)),
            figure("the nine: latency p50", "ms", |measured| {
                measured.nine.latency_ms(0.5)
            })
            .with_goal(Goal::RatioAtMost(RATIO)),
            figure("the nine: latency p99", "ms", |measured| {
                measured.nine.latency_ms(0.99)
            })
            .with_goal(Goal::RatioAtMost(RATIO)),
            figure("the tenth: served", "%", |measured| {
                measured.tenth.served_percent()
            }),
            figure("the tenth: calls to it", "calls", |measured| {
                measured.calls as f64
            }),
            Figure::alone("the tenth: refused after, p50", "ms", refusal),
            figure("load generator's lateness p99", "ms", |measured| {
                measured.nine.lateness_ms(0.99)
            }),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_a_registry_share_a_namespace_that_the_grant_allows() {
        let message = question("benchisolation3.azurecr.io", 7).message;
        let binding = message.binding.unwrap();
        assert_eq!(binding.namespace, "bench-benchisolation3");
        assert_eq!(message.registry, "benchisolation3.azurecr.io");
    }
}
