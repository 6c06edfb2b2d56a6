//! A keeper and all that it works with.

use std::{
    sync::Once,
    time::{Duration, SystemTime},
};

use client::{BrokerClient, ClientOptions, Resolve};
use futures::FutureExt as _;
use kube::runtime::watcher::Event;
use prometheus_client::registry::Registry;
use runtime::{Shutdown, clock::ManualClock};

use super::{super::*, server::Server};
use crate::{
    allowed_servers::AllowedServers,
    binding::Binding,
    context::{Limits, Secrets},
    events,
    indexed::{self, IndexedWriter},
    kube_calls::KubeCalls,
    leadership::Authority,
    links::{account_ref, entries},
    metrics::Metrics,
    samples::{self, binding, workload_identity_spec},
    seldom::Seldom,
};

/// A keeper, its API server, and the ends of the stores that watches fill.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) context: Context,
    pub(super) clock: ManualClock,
    pub(super) accounts: IndexedWriter<ServiceAccount>,
    pub(super) bindings: IndexedWriter<Binding>,
}

/// A broker that is never found: no test here asks it.
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

impl World {
    pub(super) fn new() -> Self {
        let server = Server::default();
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let metrics = Metrics::register(&mut Registry::default());
        let calls = KubeCalls::new(metrics.clone());
        let (accounts, accounts_writer) = indexed::store(());
        let (secrets, _secrets_writer) = kube::runtime::reflector::store();
        let (bindings, writers) = Bindings::empty();
        let memory = Arc::new(Memory::new(bindings.clone()));
        let (events, _publisher) = events::channel(server.client(), calls.clone(), Arc::new(clock.clone()));
        let context = Context {
            client: server.client(),
            broker: broker(),
            token_audience: String::new(),
            secrets: Secrets::Watched(secrets),
            allowed_servers: AllowedServers::default(),
            authority: Authority::endless(Arc::new(clock.clone())),
            unwritten: Seldom::default(),
            links: LinkKeeper::new(accounts, bindings, Arc::clone(&memory)),
            memory,
            limits: Limits::new(4),
            calls,
            events,
            metrics,
            clock: Arc::new(clock.clone()),
            shutdown: Shutdown::manual(),
            older_crd: Once::new(),
        };
        Self {
            server,
            context,
            clock,
            accounts: accounts_writer,
            bindings: writers.v1beta2,
        }
    }

    /// With ServiceAccount `web` and a binding of it.
    pub(super) fn with_one() -> Self {
        let mut world = Self::new();
        world.put(account("1"));
        world.bind("one");
        world
    }

    /// Somebody creates or replaces a ServiceAccount, and the watch sees it.
    pub(super) fn put(&mut self, account: ServiceAccount) {
        let account = self.server.put(account);
        self.accounts.apply_watcher_event(&Event::Apply(account));
    }

    /// The watch catches up.
    pub(super) fn see(&mut self) {
        if let Some(account) = self.server.account("web") {
            self.accounts.apply_watcher_event(&Event::Apply(account));
        }
    }

    pub(super) fn bind(&mut self, name: &str) {
        let one = binding(name, workload_identity_spec());
        self.bindings.apply_watcher_event(&Event::Apply(one.clone()));
        self.context.memory.allow_link(&one, true);
    }

    pub(super) async fn settle(&self, secret_name: Option<&str>) -> Result<Linked, KubeError> {
        self.context
            .links
            .settle(&self.context, &account_ref("shop", "web"), secret_name)
            .await
    }

    pub(super) fn listed(&self) -> Vec<String> {
        let account = self.server.account("web").unwrap();
        entries(&account).map(str::to_owned).collect()
    }

    /// The number of writes since the last time.
    pub(super) fn writes(&self) -> usize {
        self.server.calls().1.len()
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
        token_file: dir.path().join("token"),
    };
    BrokerClient::with_resolver(&options, Arc::new(Nowhere)).unwrap()
}

pub(super) fn account(uid: &str) -> ServiceAccount {
    let mut account = samples::account("web");
    account.metadata.uid = Some(uid.to_owned());
    account
}
