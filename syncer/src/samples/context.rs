//! What passes share, for tests of parts that talk to an API server: everything of a process, with a broker that is never
//! found.

use std::sync::{Arc, Once};

use client::{BrokerClient, ClientOptions, Resolve};
use futures::FutureExt as _;
use kube::Client;
use prometheus_client::registry::Registry;
use runtime::{Shutdown, clock::ManualClock};

use crate::{
    allowed_servers::AllowedServers,
    context::{Context, Limits, Secrets},
    events,
    kube_calls::KubeCalls,
    leadership::Authority,
    links::LinkKeeper,
    memory::Memory,
    metrics::Metrics,
    seldom::Seldom,
};

/// A broker that is never found: whoever asks it waits.
#[derive(Debug)]
struct Nowhere;

impl Resolve for Nowhere {
    fn resolve<'a>(
        &'a self,
        _host: &'a str,
        _port: u16,
    ) -> futures::future::BoxFuture<'a, std::io::Result<Vec<std::net::SocketAddr>>> {
        futures::future::pending().boxed()
    }
}

/// A context whose API server is behind this client.
pub(crate) fn context(
    client: Client,
    clock: &ManualClock,
    secrets: Secrets,
    links: LinkKeeper,
    memory: Arc<Memory>,
) -> Context {
    let metrics = Metrics::register(&mut Registry::default());
    let calls = KubeCalls::new(metrics.clone());
    let (events, _publisher) = events::channel(
        client.clone(),
        calls.clone(),
        Arc::new(clock.clone()),
        metrics.clone(),
    );
    Context {
        client,
        broker: broker(),
        token_audience: String::new(),
        secrets,
        allowed_servers: AllowedServers::default(),
        authority: Authority::endless(Arc::new(clock.clone())),
        unwritten: Seldom::default(),
        links,
        memory,
        news: Arc::default(),
        limits: Limits::new(4),
        calls,
        events,
        metrics,
        clock: Arc::new(clock.clone()),
        shutdown: Shutdown::manual(),
        older_crd: Once::new(),
    }
}

/// A client wants roots to trust, though it is never to meet anybody.
fn broker() -> BrokerClient {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let rcgen::CertifiedKey { cert, .. } =
        rcgen::generate_simple_self_signed(["broker.example".to_owned()]).unwrap();
    std::fs::write(&ca_file, cert.pem()).unwrap();
    let options = ClientOptions {
        address: "https://broker.example".to_owned(),
        ca_file: Some(ca_file),
        client_certificate: None,
        // An empty token will do: nobody is there to refuse it.
        token_file: "/dev/null".into(),
    };
    BrokerClient::with_resolver(&options, Arc::new(Nowhere)).unwrap()
}
