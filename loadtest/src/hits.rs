//! Requests that the broker answers from memory: how many, how fast, at what cost, beside a bare echo.
//!
//! Broker and echo take turns, so that both see the same moods of the machine; what is reported is the median of the
//! rounds. Azure must not be asked once meanwhile.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::Stack;
use proto::v1::GetDockerConfigResponse;

use crate::azure_calls::AzureCalls;
use crate::echo::Echo;
use crate::load::{self, Measurement};
use crate::process::ProcessUse;
use crate::questions::{Question, Questions, Topic};
use crate::report::{Figure, Group, Part, progress};
use crate::rounds::beside;
use crate::scene::{self, BROKER_OWNED_REGISTRY};
use crate::target::{Target, learn};
use crate::workload::Workload;

/// Measurements of each server in each case.
const ROUNDS: usize = 3;
/// Before each case, so that connections and caches are as warm as they get.
const WARM_UP: Duration = Duration::from_millis(500);
/// Questions that are asked again and again, each with a scope and a subject token of its own.
const KEYS: u32 = 16;
/// Subject tokens of a round in which each is used once, as a syncer does it.
const FRESH_TOKENS: usize = 2_000;

/// Where the broker-owned identity is asked for: its grant names no namespace that must exist.
const OWNED_NAMESPACE: &str = "bench-hits";

/// How a case asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    Grpc,
    GrpcFreshTokens,
    GrpcBrokerOwned,
    Http,
}

const CASES: [(Asking, usize); 6] = [
    (Asking::Grpc, 1),
    (Asking::Grpc, 16),
    (Asking::Grpc, 64),
    (Asking::GrpcFreshTokens, 16),
    (Asking::GrpcBrokerOwned, 16),
    (Asking::Http, 16),
];

/// What the cases share.
struct Hits<'a> {
    workload: Workload<'a>,
    federated: Vec<Question>,
    broker_owned: Vec<Question>,
    broker: Target,
    echo: Target,
    answer: GetDockerConfigResponse,
}

impl Asking {
    fn id(self) -> &'static str {
        match self {
            Self::Grpc => "grpc/workload-identity",
            Self::GrpcFreshTokens => "grpc/workload-identity-fresh-tokens",
            Self::GrpcBrokerOwned => "grpc/broker-owned",
            Self::Http => "http/workload-identity",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Grpc => "gRPC, workload identity",
            Self::GrpcFreshTokens => "gRPC, workload identity, every subject token new",
            Self::GrpcBrokerOwned => "gRPC, broker-owned identity",
            Self::Http => "HTTP JSON, workload identity",
        }
    }
}

/// Measures every case.
///
/// # Errors
/// A request was not a full hit, or a part failed.
pub(crate) async fn measure(stack: &Stack, length: Duration) -> anyhow::Result<Part> {
    let broker = Target::broker(stack).await?;
    let workload = Workload::new(stack).await?;
    let mut federated = workload.questions(KEYS).await?;
    let of_broker = Topic {
        namespace: OWNED_NAMESPACE,
        account: "web",
        registry: BROKER_OWNED_REGISTRY,
    };
    let client_id = scene::broker_owned_identity().client_id;
    let mut broker_owned: Vec<Question> = (0..KEYS)
        .map(|number| of_broker.broker_owned(number, &client_id))
        .collect();
    learn(&broker, &mut broker_owned).await?;
    let answer = learn(&broker, &mut federated).await?.pop();
    let answer = answer.context("there is no question")?;
    let server = Echo::start(stack, &answer).await?;
    let echo = server.target(stack).await?;
    let hits = Hits {
        workload,
        federated,
        broker_owned,
        broker,
        echo,
        answer,
    };
    let azure_before = AzureCalls::so_far(stack.azure()).await?;
    let mut groups = Vec::new();
    for (asking, in_flight) in CASES {
        groups.push(hits.case(asking, in_flight, length).await?);
    }
    let asked = AzureCalls::so_far(stack.azure()).await?.since(&azure_before);
    ensure!(
        asked.total() == 0,
        "Azure was asked while only hits were measured: {asked:?}"
    );
    groups.push(hits.memory()?);
    Ok(Part {
        title: "Hits: requests that the broker answers from memory, with all checks",
        baseline: "bare echo",
        notes: vec![
            "The echo decodes the same requests and sends the same payload over the same kind of TLS, and checks nothing.",
        ],
        groups,
    })
}

impl Hits<'_> {
    async fn case(&self, asking: Asking, in_flight: usize, length: Duration) -> anyhow::Result<Group> {
        let title = format!("{}, {in_flight} in flight", asking.title());
        progress(&format!("hits: {title}"));
        let repeated = self.repeated(asking);
        let for_echo = repeated.answered_by(&self.answer.docker_config_json);
        put(&self.broker, asking, &repeated, in_flight, WARM_UP).await?;
        put(&self.echo, asking, &for_echo, in_flight, WARM_UP).await?;
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _round in 0..ROUNDS {
            let questions = match asking {
                Asking::GrpcFreshTokens => {
                    let fresh = self.workload.with_new_tokens(&self.federated, FRESH_TOKENS);
                    Questions::once(fresh.await?)
                }
                Asking::Grpc | Asking::GrpcBrokerOwned | Asking::Http => repeated.clone(),
            };
            ours.push(put(&self.broker, asking, &questions, in_flight, length).await?);
            bare.push(put(&self.echo, asking, &for_echo, in_flight, length).await?);
        }
        let figure = |name: &str, unit, of: fn(&Measurement) -> f64| {
            beside(name, unit, (ours.as_slice(), bare.as_slice()), of)
        };
        let figures = vec![
            figure("requests", "1/s", Measurement::requests_per_second),
            figure("latency p50", "ms", |measured| measured.latency_ms(0.5)),
            figure("latency p99", "ms", |measured| measured.latency_ms(0.99)),
            figure(
                "server CPU per request",
                "µs",
                Measurement::cpu_microseconds_per_request,
            ),
        ];
        Ok(Group {
            title,
            id: format!("hits/{}/{in_flight}", asking.id()),
            figures,
        })
    }

    fn repeated(&self, asking: Asking) -> Questions {
        Questions::endless(match asking {
            Asking::Grpc | Asking::GrpcFreshTokens | Asking::Http => self.federated.clone(),
            Asking::GrpcBrokerOwned => self.broker_owned.clone(),
        })
    }

    fn memory(&self) -> anyhow::Result<Group> {
        let mebibytes = |target: &Target| ProcessUse::of(target.pid).map(ProcessUse::peak_rss_mib);
        Ok(Group {
            title: "Memory after all of it".to_owned(),
            id: "hits/memory".to_owned(),
            figures: vec![Figure::beside(
                "peak RSS",
                "MiB",
                mebibytes(&self.broker)?,
                mebibytes(&self.echo)?,
            )],
        })
    }
}

async fn put(
    target: &Target,
    asking: Asking,
    questions: &Questions,
    in_flight: usize,
    limit: Duration,
) -> anyhow::Result<Measurement> {
    match asking {
        Asking::Grpc | Asking::GrpcFreshTokens | Asking::GrpcBrokerOwned => {
            load::put(target.pid, &target.grpc, questions, in_flight, limit).await
        }
        Asking::Http => load::put(target.pid, &target.http, questions, in_flight, limit).await,
    }
}
