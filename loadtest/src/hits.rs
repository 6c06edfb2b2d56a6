//! Requests that the broker answers from memory: how many, how fast, at what cost, beside a bare echo.
//!
//! Broker and echo take turns, so that both see the same moods of the machine; what is reported is the median of the
//! rounds. Azure must not be asked once meanwhile.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{Stack, Team};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use proto::v1::GetDockerConfigResponse;

use crate::azure_calls::AzureCalls;
use crate::echo::Echo;
use crate::load::{self, Measurement};
use crate::process::ProcessUse;
use crate::questions::{Question, Questions, Topic};
use crate::report::{Figure, Group, Part, progress};
use crate::scene::{self, BROKER_OWNED_REGISTRY};
use crate::target::{Ask as _, Target};
use crate::tokens::federation_token;

/// Measurements of each server in each case.
const ROUNDS: usize = 3;
/// Before each case, so that connections and caches are as warm as they get.
const WARM_UP: Duration = Duration::from_millis(500);
/// Questions that are asked again and again, each with a scope and a subject token of its own.
const KEYS: usize = 16;
/// Subject tokens of a round in which each is used once, as a syncer does it.
const FRESH_TOKENS: usize = 2_000;
/// Tokens that are requested at a time.
const MINTING: usize = 32;
/// Life of every token, in seconds: longer than any run.
const TOKEN_SECONDS: u32 = 3_600;
/// The `ServiceAccount` whose identity is federated.
const ACCOUNT: &str = "web";

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
    team: Team<'a>,
    client_id: String,
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
    let caller_token = stack
        .mint_token(
            e2e::NAMESPACE,
            "acrpull-syncer",
            e2e::BROKER_AUDIENCE,
            Duration::from_secs(TOKEN_SECONDS.into()),
        )
        .await
        .context("the caller's token")?;
    let pid = stack.broker().pid().context("the broker is stopped")?;
    let broker = Target::new(pid, &stack.broker_url()?, stack.broker_ca_pem(), &caller_token)?;

    let team = stack.team(scene::NAMESPACE_PREFIX).await?;
    let client_id = team.federated_account(ACCOUNT).await?.client_id;
    let topic = topic(&team);
    let mut federated: Vec<Question> = mint(&team, KEYS)
        .await?
        .into_iter()
        .enumerate()
        .map(|(number, token)| topic.federated(number, &client_id, token))
        .collect();
    let of_broker = Topic {
        registry: BROKER_OWNED_REGISTRY,
        ..topic
    };
    let owned_client_id = scene::broker_owned_identity().client_id;
    let mut broker_owned: Vec<Question> = (0..KEYS)
        .map(|number| of_broker.broker_owned(number, &owned_client_id))
        .collect();
    let answer = learn(&broker, &mut federated).await?;
    learn(&broker, &mut broker_owned).await?;

    let server = Echo::start(stack, &answer).await?;
    let echo = Target::new(server.process.pid(), &server.url, &server.ca_pem, &caller_token)?;
    let hits = Hits {
        team,
        client_id,
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
                Asking::GrpcFreshTokens => self.fresh().await?,
                Asking::Grpc | Asking::GrpcBrokerOwned | Asking::Http => repeated.clone(),
            };
            ours.push(put(&self.broker, asking, &questions, in_flight, length).await?);
            bare.push(put(&self.echo, asking, &for_echo, in_flight, length).await?);
        }
        let figure = |name: &str, unit, of: fn(&Measurement) -> f64| {
            Figure::beside(
                name,
                unit,
                median(ours.iter().map(of)),
                median(bare.iter().map(of)),
            )
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

    /// The known questions, each time with a subject token that the broker has never seen.
    async fn fresh(&self) -> anyhow::Result<Questions> {
        let topic = topic(&self.team);
        let tokens = mint(&self.team, FRESH_TOKENS).await?;
        let known = self.federated.iter().enumerate().cycle();
        let question = |((number, known), token): ((usize, &Question), String)| Question {
            payload: known.payload.clone(),
            ..topic.federated(number, &self.client_id, token)
        };
        Ok(Questions::once(known.zip(tokens).map(question).collect()))
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

fn topic<'a>(team: &'a Team<'_>) -> Topic<'a> {
    Topic {
        namespace: team.namespace(),
        account: ACCOUNT,
        registry: team.registry(),
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

/// Asks each question once, which fills the broker's caches, and notes the payloads. Returns the last answer.
async fn learn(broker: &Target, questions: &mut [Question]) -> anyhow::Result<GetDockerConfigResponse> {
    let connection = broker.grpc.first().context("there is no connection")?;
    let mut last = None;
    for question in questions {
        let answer = connection.ask(question.message.clone()).await?;
        question.payload = answer.docker_config_json.clone();
        last = Some(answer);
    }
    last.context("there is no question")
}

async fn mint(team: &Team<'_>, count: usize) -> anyhow::Result<Vec<String>> {
    let accounts = team.api();
    let mint = |_number| federation_token(&accounts, ACCOUNT, TOKEN_SECONDS.into());
    stream::iter(0..count)
        .map(mint)
        .buffered(MINTING)
        .try_collect()
        .await
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_one() {
        assert!((median([3.0, 100.0, 1.0].into_iter()) - 3.0).abs() < f64::EPSILON);
    }
}
