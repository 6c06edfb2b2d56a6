//! An Azure that stalls (guarantees S2 and C3): hits, and misses of other registries, beside the same load while nothing
//! stalls.
//!
//! The second half needs renewals of the very keys that are hit. A caller that reports its token as rejected causes one,
//! once the token is a minute old: the first half is measured meanwhile.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use azure_simulator::{Action, Fault, Operation, Service};
use e2e::Stack;
use proto::v1::GetDockerConfigRequest;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::open_loop::{self, Round, Schedule};
use crate::questions::{Question, Questions, Topic};
use crate::report::{Figure, Goal, Group, Part, progress};
use crate::rounds::{beside, median};
use crate::scene;
use crate::target::{Ask as _, Target, learn};

/// Rounds of each kind.
const ROUNDS: usize = 3;
/// Keys that are hit in a round; each round has its own, because each can be renewed once a minute.
const HIT_KEYS: usize = 16;
/// Keys that wait for a registry that stalls, over so many registries: 24 for each, the most that it is asked at a time on
/// behalf of one namespace.
const STALLED_KEYS: usize = 96;
const STALLED_REGISTRIES: usize = 4;
const HITS: Schedule = Schedule {
    per_second: 500,
    length: Duration::from_secs(3),
};
const MISSES: Schedule = Schedule {
    per_second: 40,
    ..HITS
};
/// Questions to the registry of the misses before all rounds, at a time: as many connections as the misses need.
const WARM_UP: u32 = 8;
/// How long a stall lasts: longer than a round's load, and no longer than a caller waits for a renewal.
const STALL: Duration = Duration::from_secs(5);
/// All calls that stall have reached their registries by then, or something else is wrong.
const ARRIVAL: Duration = Duration::from_millis(1_500);
/// Age at which a caller can cause a renewal, and a little more.
const OLD_ENOUGH: Duration = Duration::from_secs(61);
/// Namespace of all questions; its grant needs none that exists.
const NAMESPACE: &str = "bench-stall";
/// Most by which a hit may be slowed down (guarantee S2) ...
const RATIO: f64 = 1.1;
/// ... and by which its p99 may grow, in milliseconds (guarantee C3).
const P99_MORE_MS: f64 = 1.0;

/// What stalls besides the keys of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewals {
    None,
    OfHitKeys,
}

/// The load of one round.
struct Measured {
    hits: Round,
    misses: Round,
}

struct Stall<'a> {
    stack: &'a Stack,
    broker: Target,
    hosts: Hosts,
}

struct Hosts {
    hit: String,
    missed: String,
    stalled: Vec<String>,
}

/// The keys of a round, and how a caller reports the token of each as rejected.
struct HitKeys {
    questions: Questions,
    reports: Vec<GetDockerConfigRequest>,
}

/// Those that stall, that of the hits and that of the misses.
pub(crate) fn registries() -> Vec<String> {
    scene::registries("stall", STALLED_REGISTRIES + 2)
}

/// Measures both halves.
///
/// # Errors
/// A part failed, or a stall was over before the load was.
pub(crate) async fn measure(stack: &Stack) -> anyhow::Result<Part> {
    let stall = Stall {
        stack,
        broker: Target::broker(stack).await?,
        hosts: Hosts::new()?,
    };
    let keys = stall.hit_keys().await?;
    let old_enough = Instant::now() + OLD_ENOUGH;
    let others = stall.rounds(&keys, Renewals::None).await?;
    progress("stall: waiting until the keys are old enough to be renewed");
    tokio::time::sleep_until(old_enough).await;
    let own = stall.rounds(&keys, Renewals::OfHitKeys).await?;
    Ok(Part {
        title: "Stall: 500 hits and 40 misses a second while four registries stall with 24 callers each",
        baseline: "no stall",
        notes: vec!["The misses are of a registry that does not stall; each costs a call of 100 ms."],
        groups: vec![
            group("other-keys", "96 other keys wait", &others),
            group(
                "own-renewals",
                "96 other keys wait, and the renewal of each key that is hit",
                &own,
            ),
        ],
    })
}

impl Hosts {
    fn new() -> anyhow::Result<Self> {
        let mut stalled = registries();
        let missed = stalled.pop().context("there are no registries")?;
        let hit = stalled.pop().context("there is one registry")?;
        Ok(Self { hit, missed, stalled })
    }
}

impl Stall<'_> {
    /// The keys of each round, in the broker's memory; refresh tokens and connections of the other registries as well.
    async fn hit_keys(&self) -> anyhow::Result<Vec<HitKeys>> {
        let stalled = self.hosts.stalled.iter().map(|host| question(host, u32::MAX));
        let missed = (0..WARM_UP).map(|number| question(&self.hosts.missed, u32::MAX - number));
        learn(&self.broker, &mut missed.chain(stalled).collect::<Vec<_>>()).await?;
        let mut numbers = 0..;
        let mut keys = Vec::new();
        for _round in 0..ROUNDS {
            let numbers = numbers.by_ref().take(HIT_KEYS);
            let questions: Vec<_> = numbers.map(|number| question(&self.hosts.hit, number)).collect();
            // Their payloads are not noted: a renewal makes new ones.
            let answers = learn(&self.broker, &mut questions.clone()).await?;
            let report = |(question, answer): (&Question, _)| GetDockerConfigRequest {
                rejected_fingerprint: answer,
                ..question.message.clone()
            };
            let fingerprints = answers.into_iter().map(|answer| answer.fingerprint);
            keys.push(HitKeys {
                reports: questions.iter().zip(fingerprints).map(report).collect(),
                questions: Questions::endless(questions),
            });
        }
        Ok(keys)
    }

    /// Each round without a stall, and with one.
    async fn rounds(
        &self,
        keys: &[HitKeys],
        renewals: Renewals,
    ) -> anyhow::Result<(Vec<Measured>, Vec<Measured>)> {
        let (mut calm, mut stalled) = (Vec::new(), Vec::new());
        for (number, keys) in (0_u32..).zip(keys) {
            // No question of a miss is asked twice.
            let series = 4 * number + if renewals == Renewals::None { 0 } else { 2 };
            progress(&format!("stall: {renewals:?}, round {}", number + 1));
            // In turn, so that what a round leaves behind is not always the other kind's.
            if number % 2 == 0 {
                calm.push(self.load(keys, series).await?);
            }
            stalled.push(self.load_in_a_stall(keys, renewals, series + 1).await?);
            if number % 2 == 1 {
                calm.push(self.load(keys, series).await?);
            }
        }
        Ok((calm, stalled))
    }

    async fn load_in_a_stall(
        &self,
        keys: &HitKeys,
        renewals: Renewals,
        series: u32,
    ) -> anyhow::Result<Measured> {
        let azure = self.stack.azure();
        let mut hosts: Vec<&String> = self.hosts.stalled.iter().collect();
        let mut messages = self.stalled_questions(series);
        if renewals == Renewals::OfHitKeys {
            hosts.push(&self.hosts.hit);
            messages.extend(keys.reports.iter().cloned());
        }
        for host in hosts {
            let ms = u64::try_from(STALL.as_millis())?;
            azure
                .add_fault(Fault::new(Action::Latency { ms, jitter_ms: 0 }).host(host))
                .await?;
        }
        let expected = u64::try_from(messages.len())?;
        let mut waiting = JoinSet::new();
        for (message, connection) in messages.into_iter().zip(self.broker.grpc.iter().cycle()) {
            let connection = connection.clone();
            waiting.spawn(async move {
                let answer = connection.ask(message).await;
                answer.map(|_answer| Instant::now())
            });
        }
        e2e::wait_for("all calls stall", ARRIVAL, async || {
            let counters = azure.admin().counters().await?;
            let mut of_tokens = counters.in_flight.iter();
            let of_tokens = of_tokens.find(|one| one.service == Service::Acr && one.op == Operation::Token);
            Ok(of_tokens.is_some_and(|one| one.now >= expected))
        })
        .await?;
        let measured = self.load(keys, series).await?;
        let end = Instant::now();
        while let Some(answered) = waiting.join_next().await {
            let answered_at = answered.context("a caller was lost")??;
            ensure!(answered_at >= end, "a stall was over before the load was");
        }
        azure.admin().clear_faults().await?;
        Ok(measured)
    }

    fn stalled_questions(&self, series: u32) -> Vec<GetDockerConfigRequest> {
        let hosts = self.hosts.stalled.iter().cycle().take(STALLED_KEYS);
        let questions = (series * 1_000..).zip(hosts);
        questions
            .map(|(number, host)| question(host, number).message)
            .collect()
    }

    async fn load(&self, keys: &HitKeys, series: u32) -> anyhow::Result<Measured> {
        let questions = keys.questions.clone();
        let hits = open_loop::put(&self.broker.grpc, HITS, move |_number| questions.next().cloned());
        let missed = self.hosts.missed.clone();
        let misses = open_loop::put(&self.broker.grpc, MISSES, move |number| {
            Some(question(&missed, series * 1_000 + number))
        });
        let (hits, misses) = tokio::try_join!(hits, misses)?;
        Ok(Measured {
            hits: Round::of(&hits)?,
            misses: Round::of(&misses)?,
        })
    }
}

fn question(host: &str, number: u32) -> Question {
    let topic = Topic {
        namespace: NAMESPACE,
        account: "web",
        registry: host,
    };
    topic.broker_owned(number, &scene::broker_owned_identity().client_id)
}

fn group(id: &str, title: &str, (calm, stalled): &(Vec<Measured>, Vec<Measured>)) -> Group {
    let figure = |name: &str, unit, of: fn(&Measured) -> f64| {
        beside(name, unit, (stalled.as_slice(), calm.as_slice()), of)
    };
    let hit_p99 = |rounds: &[Measured]| median(rounds.iter().map(|round| round.hits.latency_ms(0.99)));
    let more = hit_p99(stalled) - hit_p99(calm);
    Group {
        title: title.to_owned(),
        id: format!("stall/{id}"),
        figures: vec![
            figure("hits: served", "%", |round| round.hits.served_percent()).with_goal(Goal::AtLeast(100.0)),
            figure("hits: latency p50", "ms", |round| round.hits.latency_ms(0.5))
                .with_goal(Goal::RatioAtMost(RATIO)),
            figure("hits: latency p99", "ms", |round| round.hits.latency_ms(0.99))
                .with_goal(Goal::RatioAtMost(RATIO)),
            Figure::alone("hits: latency p99, more than without", "ms", more)
                .with_goal(Goal::AtMost(P99_MORE_MS)),
            figure("misses: served", "%", |round| round.misses.served_percent())
                .with_goal(Goal::AtLeast(100.0)),
            figure("misses: latency p50", "ms", |round| round.misses.latency_ms(0.5))
                .with_goal(Goal::RatioAtMost(RATIO)),
            figure("misses: latency p99", "ms", |round| round.misses.latency_ms(0.99))
                .with_goal(Goal::RatioAtMost(RATIO)),
            figure("load generator's lateness p99", "ms", |round| {
                round.hits.lateness_ms(0.99)
            }),
        ],
    }
}
