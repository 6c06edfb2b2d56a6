//! Two replicas behind the real client, and a steady stream of requests: whatever happens to one of them, each is answered.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{BrokerClient, BrokerError, ClientOptions, Resolve};
use controlplane::free_ports;
use e2e::{Broker, Rig, wait_for};
use futures::future::BoxFuture;
use proto::v1::{GetDockerConfigRequest, GetDockerConfigResponse};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::interval;

/// 200 requests a second.
const INTERVAL: Duration = Duration::from_millis(5);
/// Different requests, all of which a replica that starts has to ask Azure for.
const REPOSITORIES: usize = 20;
const ROUNDS: usize = 3;
/// How long a replica that has come back may wait for its first request.
const BACK: Duration = Duration::from_secs(15);
/// As long as it takes a client to find out that a connection is dead, and a little more: 10 s and 3 s.
const DETECTION: Duration = Duration::from_secs(14);

/// Every replica under one name, as a headless Service has it.
#[derive(Debug)]
struct Headless(Vec<SocketAddr>);

impl Resolve for Headless {
    fn resolve<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

/// Two replicas and their client.
struct Pair {
    rig: Rig,
    replicas: [Broker; 2],
    client: BrokerClient,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_rolling_restart_of_two_replicas_under_load_fails_no_request() -> anyhow::Result<()> {
    let pair = Pair::start("rolling-restart").await?;
    pair.under_load(async {
        for _round in 0..ROUNDS {
            for replica in &pair.replicas {
                replica.stop().await?;
                replica.start().await?;
                is_asked(replica).await?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_killed_replica_under_load_fails_no_request() -> anyhow::Result<()> {
    let pair = Pair::start("killed-replica").await?;
    let [first, second] = &pair.replicas;
    pair.under_load(async {
        for replica in [first, second] {
            replica.kill().await;
            replica.start().await?;
            is_asked(replica).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_halted_replica_under_load_fails_no_request() -> anyhow::Result<()> {
    let pair = Pair::start("halted-replica").await?;
    let [halted, other] = &pair.replicas;
    pair.under_load(async {
        halted.signal(Signal::STOP);
        tokio::time::sleep(DETECTION).await;
        halted.signal(Signal::CONT);
        // Whatever it has missed, it is asked again.
        let before = requests(halted).await?;
        wait_for("the replica is asked again", BACK, async || {
            Ok(requests(halted).await? > before)
        })
        .await?;
        ensure!(requests(other).await? > 0, "the other was not asked");
        Ok(())
    })
    .await
}

impl Pair {
    async fn start(name: &str) -> anyhow::Result<Self> {
        let rig = Rig::start(name, ["busy"]).await?;
        // No connection of this machine comes from these addresses, so that a port stays free while its replica is gone.
        let [first, second] = free_ports()?;
        let ip = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        let replicas = [
            rig.broker_at("replica-1", ip(2), first).await?,
            rig.broker_at("replica-2", ip(3), second).await?,
        ];
        let options = ClientOptions {
            address: format!("https://{}", Rig::HOST),
            ca_file: Some(rig.ca_file()),
            client_certificate: None,
            token_file: rig.token_file()?,
        };
        let headless = Headless(replicas.iter().map(Broker::address).collect());
        let client = BrokerClient::with_resolver(&options, Arc::new(headless))?;
        for replica in &replicas {
            // A client that has not found both yet has nobody to turn to.
            wait_for("the client has found the replica", BACK, async || {
                client.get_docker_config(request(&rig, 0)?).await?;
                Ok(requests(replica).await? > 0)
            })
            .await?;
        }
        Ok(Self {
            rig,
            replicas,
            client,
        })
    }

    /// Asks at a fixed rate, whatever becomes of the answers, until `work` is done. All must be answered.
    async fn under_load(&self, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        let requests = (0..REPOSITORIES).map(|number| request(&self.rig, number));
        let requests: Vec<GetDockerConfigRequest> = requests.collect::<Result<_, _>>()?;
        let mut load = Load::default();
        let mut ticks = interval(INTERVAL);
        let mut next = requests.iter().cycle();
        let mut work = pin!(work);
        let worked = loop {
            tokio::select! {
                worked = &mut work => break worked,
                _ = ticks.tick() => load.ask(&self.client, next.next().context("there are requests")?),
                Some(answer) = load.asked.join_next() => load.count(answer?),
            }
        };
        while let Some(answer) = load.asked.join_next().await {
            load.count(answer?);
        }
        let judged = worked.and_then(|()| load.judge());
        judged.inspect_err(|_error| self.rig.keep_logs())
    }
}

/// Requests that are under way, and what came of the others.
#[derive(Default)]
struct Load {
    asked: JoinSet<Result<GetDockerConfigResponse, BrokerError>>,
    answered: usize,
    failed: Vec<BrokerError>,
}

impl Load {
    fn ask(&mut self, client: &BrokerClient, request: &GetDockerConfigRequest) {
        let (client, request) = (client.clone(), request.clone());
        self.asked
            .spawn(async move { client.get_docker_config(request).await });
    }

    fn count(&mut self, answer: Result<GetDockerConfigResponse, BrokerError>) {
        match answer {
            Ok(_credential) => self.answered += 1,
            Err(error) => self.failed.push(error),
        }
    }

    fn judge(&self) -> anyhow::Result<()> {
        ensure!(
            self.failed.is_empty(),
            "{} of {} requests failed, the first with {:?}",
            self.failed.len(),
            self.failed.len() + self.answered,
            self.failed.first()
        );
        ensure!(self.answered > 0, "nothing was asked");
        Ok(())
    }
}

fn request(rig: &Rig, repository: usize) -> anyhow::Result<GetDockerConfigRequest> {
    let mut request = rig.federated(rig.site("busy")?);
    request.scopes = vec![format!("repository:team/app{repository}:pull")];
    Ok(request)
}

/// Waits until a replica that has just started is asked for something.
async fn is_asked(replica: &Broker) -> anyhow::Result<()> {
    wait_for("the replica is asked", BACK, async || {
        Ok(requests(replica).await? > 0)
    })
    .await
}

/// How many requests a replica has answered since it started.
async fn requests(replica: &Broker) -> anyhow::Result<u64> {
    replica.counted("acrpull_broker_requests_total", &[]).await
}
