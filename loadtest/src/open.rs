//! Hits at a fixed rate: how long one waits for an answer from memory when the broker is not driven to its limit, beside
//! a bare echo at the same rate.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::Stack;

use crate::azure_calls::AzureCalls;
use crate::echo::Echo;
use crate::open_loop::{self, Round, Schedule};
use crate::process::ProcessUse;
use crate::questions::Questions;
use crate::report::{Figure, Goal, Group, Part, progress};
use crate::rounds::beside;
use crate::target::{Target, learn};
use crate::workload::Workload;

/// Rounds of each server.
const ROUNDS: usize = 3;
/// Questions that are asked again and again, each with a scope and a subject token of its own.
const KEYS: u32 = 16;
/// The rate that is promised (guarantee P1).
const SCHEDULE: Schedule = Schedule {
    per_second: 2_000,
    length: Duration::from_secs(5),
};
/// Before the rounds, so that connections and caches are as warm as they get.
const WARM_UP: Schedule = Schedule {
    length: Duration::from_millis(500),
    ..SCHEDULE
};
/// What is promised of them.
const P99_MS: f64 = 10.0;

/// One round.
struct Measured {
    round: Round,
    cpu: Duration,
}

/// Measures both.
///
/// # Errors
/// An answer was not a full hit, or a part failed.
pub(crate) async fn measure(stack: &Stack) -> anyhow::Result<Part> {
    let broker = Target::broker(stack).await?;
    let workload = Workload::new(stack).await?;
    let mut questions = workload.questions(KEYS).await?;
    let answer = learn(&broker, &mut questions).await?.pop();
    let answer = answer.context("there is no question")?;
    let server = Echo::start(stack, &answer).await?;
    let echo = server.target(stack).await?;
    let questions = Questions::endless(questions);
    let echoed = questions.answered_by(&answer.docker_config_json);

    let azure_before = AzureCalls::so_far(stack.azure()).await?;
    put(&broker, WARM_UP, &questions).await?;
    put(&echo, WARM_UP, &echoed).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        progress(&format!(
            "open: {} hits a second, round {round}",
            SCHEDULE.per_second
        ));
        ours.push(put(&broker, SCHEDULE, &questions).await?);
        bare.push(put(&echo, SCHEDULE, &echoed).await?);
    }
    let asked = AzureCalls::so_far(stack.azure()).await?.since(&azure_before);
    ensure!(
        asked.total() == 0,
        "Azure was asked while only hits were measured: {asked:?}"
    );
    Ok(Part {
        title: "Open loop: hits at a fixed rate, over four gRPC connections, with all checks",
        baseline: "bare echo",
        notes: vec![
            "A latency counts from the moment at which its request was due, so it includes the load generator's own lateness.",
        ],
        groups: vec![Group {
            title: format!(
                "gRPC, workload identity, {} requests a second",
                SCHEDULE.per_second
            ),
            id: format!("open/grpc/workload-identity/{}", SCHEDULE.per_second),
            figures: figures(&ours, &bare),
        }],
    })
}

async fn put(target: &Target, schedule: Schedule, questions: &Questions) -> anyhow::Result<Measured> {
    let before = ProcessUse::of(target.pid)?;
    let questions = questions.clone();
    let answers = open_loop::put(&target.grpc, schedule, move |_number| questions.next().cloned()).await?;
    Ok(Measured {
        cpu: ProcessUse::of(target.pid)?.cpu.saturating_sub(before.cpu),
        round: Round::of(&answers)?,
    })
}

fn figures(ours: &[Measured], bare: &[Measured]) -> Vec<Figure> {
    let figure = |name: &str, unit, of: fn(&Measured) -> f64| beside(name, unit, (ours, bare), of);
    vec![
        figure("served", "%", |measured| measured.round.served_percent()).with_goal(Goal::AtLeast(100.0)),
        figure("latency p50", "ms", |measured| measured.round.latency_ms(0.5)),
        figure("latency p99", "ms", |measured| measured.round.latency_ms(0.99))
            .with_goal(Goal::AtMost(P99_MS)),
        figure("server CPU per request", "µs", Measured::cpu_microseconds),
        figure("load generator's lateness p50", "ms", |measured| {
            measured.round.lateness_ms(0.5)
        }),
        figure("load generator's lateness p99", "ms", |measured| {
            measured.round.lateness_ms(0.99)
        }),
    ]
}

impl Measured {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a short run are far below 2^52"
    )]
    fn cpu_microseconds(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.round.asked().max(1) as f64
    }
}
