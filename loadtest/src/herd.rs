//! A cold start (guarantee U8): a new broker, and within a second 100 callers with 100 keys each. All must be served, no
//! registry may see more than its budget, and memory must not follow the queue.
//!
//! Afterwards as many keys again, over more registries, to see what 20,000 keys weigh (guarantee P1).

use std::time::Duration;

use anyhow::{Context as _, ensure};
use azure_simulator::Calls;
use e2e::Stack;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use proto::Reason;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::azure_calls::AzureCalls;
use crate::latencies::Latencies;
use crate::process::ProcessUse;
use crate::questions::{Question, Topic};
use crate::refusal::Refusal;
use crate::report::{Figure, Goal, Group, Part, progress};
use crate::scene;
use crate::starts::{BURST, IN_FLIGHT, Starts};
use crate::target::{Ask as _, GrpcConnection};
use crate::tokens::caller_token;
use crate::workload::Workload;

/// Callers, each with a connection and a token of its own ...
const CALLERS: u32 = 100;
/// ... that connect within this time.
const CONNECTING: Duration = Duration::from_secs(1);
/// Keys of the broker-owned identity, over so many namespaces and registries: few enough that their budgets are used up.
const OWNED_KEYS: u32 = 9_000;
const OWNED_NAMESPACES: u32 = 18;
const OWNED_REGISTRIES: usize = 2;
/// Workload identities, each with a namespace, a registry and so many keys.
const WORKLOADS: usize = 10;
const WORKLOAD_KEYS: u32 = 100;
/// What is added afterwards.
const MORE_KEYS: u32 = 10_000;
const MORE_NAMESPACES: u32 = 20;
const MORE_REGISTRIES: usize = 10;
/// The longest that all callers may take.
const LIMIT: Duration = Duration::from_secs(80);
/// A caller that is refused asks again after what it is told, or after this and twice, four times as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Caller tokens that are requested at a time.
const MINTING: usize = 16;
/// The broker counts its keys at least this often.
const COUNTING: Duration = Duration::from_secs(12);
/// What is promised of memory, in MiB.
const MEMORY_MIB: f64 = 256.0;

/// What came of asking for many keys.
struct Herd {
    elapsed: Duration,
    /// Of each key, from the moment at which its caller connects.
    served: Latencies,
    /// Refusals for an overload.
    overloads: u32,
}

/// What came of one key.
struct Key {
    took: Duration,
    overloads: u32,
}

/// Those of the start, and those of the keys that are added.
pub(crate) fn registries() -> Vec<String> {
    scene::registries("herd", OWNED_REGISTRIES + MORE_REGISTRIES)
}

/// Measures the start, and what is in memory afterwards.
///
/// # Errors
/// Not all keys were served, somebody was refused for another reason than an overload, or a part failed.
pub(crate) async fn measure(stack: &Stack) -> anyhow::Result<Part> {
    progress("herd: preparing keys and callers");
    let hosts = registries();
    let (few, more) = hosts.split_at(OWNED_REGISTRIES);
    let mut questions = owned(few, 0..OWNED_KEYS, OWNED_NAMESPACES);
    questions.extend(federated(stack).await?);
    stack.broker().restart().await?;
    let callers = callers(stack).await?;
    let before = AzureCalls::so_far(stack.azure()).await?;

    progress("herd: 10,000 keys, 100 callers");
    let herd = serve(&callers, questions).await?;
    let used = used(stack)?;
    let log = stack.azure().admin().log(before.total()).await?;
    let calls = AzureCalls::so_far(stack.azure()).await?.since(&before);
    let starts = few
        .iter()
        .map(|host| Starts::of(&Calls::new(log.clone()).host(host)));
    let start = Group {
        title: "10,000 keys, 100 callers".to_owned(),
        id: "herd/start".to_owned(),
        figures: start_figures(&herd, used, &calls, &starts.collect::<Vec<_>>()),
    };

    progress("herd: 10,000 keys more");
    let more = owned(more, OWNED_KEYS..OWNED_KEYS + MORE_KEYS, MORE_NAMESPACES);
    let added = serve(&callers, more).await?;
    let memory = Group {
        title: "20,000 keys in memory".to_owned(),
        id: "herd/memory".to_owned(),
        figures: memory_figures(stack, &added).await?,
    };
    Ok(Part {
        title: "Herd: a new broker is asked for 10,000 keys at once, 100 ms per Azure call",
        baseline: "",
        notes: vec![
            "9,000 keys of a broker-owned identity over 2 registries and 18 namespaces; 1,000 keys of 10 workload identities with a registry each.",
            "A registry's budget is a burst of 2,000 calls, then 100 a second, 32 in flight; the slack of 32 in the goal is for calls that were on their way.",
        ],
        groups: vec![start, memory],
    })
}

/// Keys of the broker-owned identity, spread evenly over these registries and so many namespaces.
fn owned(hosts: &[String], numbers: std::ops::Range<u32>, namespaces: u32) -> Vec<Question> {
    let client_id = scene::broker_owned_identity().client_id;
    let first = numbers.start;
    let question = |(number, host): (u32, &String)| {
        let topic = Topic {
            namespace: &format!("{}-herd-{first}-{}", scene::NAMESPACE_PREFIX, number % namespaces),
            account: "web",
            registry: host,
        };
        topic.broker_owned(number, &client_id)
    };
    numbers.zip(hosts.iter().cycle()).map(question).collect()
}

async fn federated(stack: &Stack) -> anyhow::Result<Vec<Question>> {
    let mut questions = Vec::new();
    for _workload in 0..WORKLOADS {
        questions.extend(Workload::new(stack).await?.questions(WORKLOAD_KEYS).await?);
    }
    Ok(questions)
}

async fn callers(stack: &Stack) -> anyhow::Result<Vec<GrpcConnection>> {
    let tokens: Vec<String> = stream::iter(0..CALLERS)
        .map(|_caller| caller_token(stack))
        .buffered(MINTING)
        .try_collect()
        .await?;
    let url = stack.broker_url()?;
    tokens
        .iter()
        .map(|token| GrpcConnection::new(&url, stack.broker_ca_pem(), token))
        .collect()
}

/// Has these callers ask for all of it, each for an equal part, until everything is served.
async fn serve(callers: &[GrpcConnection], questions: Vec<Question>) -> anyhow::Result<Herd> {
    let start = Instant::now();
    let gap = CONNECTING / CALLERS;
    let mut keys = JoinSet::new();
    let turns = (0..CALLERS).zip(callers).cycle();
    for (question, (caller, connection)) in questions.into_iter().zip(turns) {
        keys.spawn(insist(connection.clone(), question, start + gap * caller));
    }
    let mut herd = Herd {
        elapsed: Duration::ZERO,
        served: Latencies::new()?,
        overloads: 0,
    };
    let all = async {
        while let Some(key) = keys.join_next().await {
            let key = key.context("a caller was lost")??;
            herd.served.record(key.took)?;
            herd.overloads += key.overloads;
        }
        anyhow::Ok(())
    };
    let all = tokio::time::timeout(LIMIT, all).await;
    all.with_context(|| format!("{} keys were served within {LIMIT:?}", herd.served.count()))??;
    herd.elapsed = start.elapsed();
    Ok(herd)
}

/// Asks until it is served, as a caller does that is told to come back.
async fn insist(connection: GrpcConnection, question: Question, connects_at: Instant) -> anyhow::Result<Key> {
    tokio::time::sleep_until(connects_at).await;
    let mut overloads = 0;
    let mut pause = FIRST_PAUSE;
    loop {
        let refusal = match connection.ask(question.message.clone()).await {
            Ok(answer) => {
                question.check(&answer)?;
                let took = connects_at.elapsed();
                return Ok(Key { took, overloads });
            }
            Err(error) => Refusal::of(error)?,
        };
        ensure!(
            refusal.reason == Reason::Overloaded,
            "a caller was refused for {}",
            refusal.reason.as_wire()
        );
        overloads += 1;
        let told = refusal.retry_after.unwrap_or(pause);
        tokio::time::sleep(told + pause.mul_f64(rand::random::<f64>() / 2.0)).await;
        pause = LONGEST_PAUSE.min(2 * pause);
    }
}

fn used(stack: &Stack) -> anyhow::Result<ProcessUse> {
    ProcessUse::of(stack.broker().pid().context("the broker is stopped")?)
}

fn start_figures(herd: &Herd, used: ProcessUse, calls: &AzureCalls, starts: &[Starts]) -> Vec<Figure> {
    let seconds = |quantile| herd.served.ms(quantile) / 1000.0;
    let most = |of: fn(&Starts) -> f64| starts.iter().map(of).fold(0.0, f64::max);
    let mut figures = vec![
        Figure::alone("all served", "s", herd.elapsed.as_secs_f64()),
        Figure::alone("one key, from its caller's start, p50", "s", seconds(0.5)),
        Figure::alone("one key, from its caller's start, p99", "s", seconds(0.99)),
        Figure::alone(
            "refused for an overload, and served later",
            "answers",
            herd.overloads.into(),
        ),
        Figure::alone("busiest registry: calls", "calls", most(|one| one.calls)),
        Figure::alone(
            "busiest registry: starts in one second",
            "calls",
            most(|one| one.in_a_second),
        ),
        Figure::alone(
            "busiest registry: burst that was used",
            "calls",
            most(|one| one.of_the_burst),
        )
        .with_goal(Goal::AtMost(BURST + IN_FLIGHT)),
        Figure::alone("busiest registry: in flight", "calls", most(|one| one.in_flight))
            .with_goal(Goal::AtMost(IN_FLIGHT)),
        Figure::alone("broker peak RSS", "MiB", used.peak_rss_mib()).with_goal(Goal::AtMost(MEMORY_MIB)),
        Figure::alone("broker CPU since its start", "s", used.cpu.as_secs_f64()),
    ];
    figures.extend(calls.figures());
    figures
}

async fn memory_figures(stack: &Stack, added: &Herd) -> anyhow::Result<Vec<Figure>> {
    tokio::time::sleep(COUNTING).await;
    let metrics = stack.broker().metrics().await?;
    let keys = gauge(&metrics, "acrpull_broker_cache_entries{cache=\"acr_access\"}");
    let used = used(stack)?;
    Ok(vec![
        Figure::alone("the second 10,000 served", "s", added.elapsed.as_secs_f64()),
        Figure::alone("keys", "keys", keys.context("the broker counts no keys")?)
            .with_goal(Goal::AtLeast(f64::from(OWNED_KEYS + 1_000 + MORE_KEYS))),
        Figure::alone("broker RSS", "MiB", used.rss_mib()).with_goal(Goal::AtMost(MEMORY_MIB)),
        Figure::alone("broker peak RSS", "MiB", used.peak_rss_mib()).with_goal(Goal::AtMost(MEMORY_MIB)),
    ])
}

/// The value of one series of a page of metrics.
fn gauge(metrics: &str, series: &str) -> Option<f64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(series))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spread_over_registries_and_namespaces() {
        let hosts = ["a.azurecr.io".to_owned(), "b.azurecr.io".to_owned()];
        let questions = owned(&hosts, 10..14, 3);
        let asked: Vec<_> = questions
            .iter()
            .map(|question| {
                let namespace = question.message.binding.as_ref().unwrap().namespace.as_str();
                (question.message.registry.as_str(), namespace)
            })
            .collect();
        assert_eq!(
            asked,
            [
                ("a.azurecr.io", "bench-herd-10-1"),
                ("b.azurecr.io", "bench-herd-10-2"),
                ("a.azurecr.io", "bench-herd-10-0"),
                ("b.azurecr.io", "bench-herd-10-1"),
            ]
        );
    }

    #[test]
    fn gauge_is_found_by_its_series() {
        let metrics = "# TYPE keys gauge\nkeys{cache=\"entra\"} 3\nkeys{cache=\"acr\"} 20000\n";
        assert_eq!(gauge(metrics, "keys{cache=\"acr\"}"), Some(20_000.0));
        assert_eq!(gauge(metrics, "keys{cache=\"x\"}"), None);
    }
}
