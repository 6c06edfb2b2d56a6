//! A keeper and all that it works with.

use std::time::{Duration, SystemTime};

use kube::runtime::watcher::Event;
use runtime::clock::ManualClock;

use super::{super::*, server::Server};
use crate::{
    binding::Binding,
    context::Secrets,
    indexed::{self, IndexedWriter},
    links::{account_ref, entries},
    samples::{self, binding, context, workload_identity_spec},
};

/// A keeper, its API server, and the ends of the stores that watches fill.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) context: Context,
    pub(super) clock: ManualClock,
    pub(super) accounts: IndexedWriter<ServiceAccount>,
    pub(super) bindings: IndexedWriter<Binding>,
}

impl World {
    pub(super) fn new() -> Self {
        let server = Server::default();
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let (accounts, accounts_writer) = indexed::store(());
        let (secrets, _secrets_writer) = kube::runtime::reflector::store();
        let (bindings, writers) = Bindings::empty();
        let memory = Arc::new(Memory::new(bindings.clone()));
        let links = LinkKeeper::new(accounts, bindings, Arc::clone(&memory));
        let context = context(server.client(), &clock, Secrets::Watched(secrets), links, memory);
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

pub(super) fn account(uid: &str) -> ServiceAccount {
    let mut account = samples::account("web");
    account.metadata.uid = Some(uid.to_owned());
    account
}
