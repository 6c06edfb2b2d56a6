//! A process of the syncer: what it sees, what it remembers, and what it is to look at when. The one that leads works; one
//! that was deposed may still be in the middle of a pass.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use syncer::{
    binding::{Binding, BindingRef},
    links::{account_ref, contests::Contests},
    memory::{Echo, Memory},
    watches::router::Wake,
};

use crate::{
    cases::{SLOTS, place},
    feeds::{Feeds, SeenSecret, Stores, watched},
    server::{Key, Objects, secret_key},
};

pub(crate) struct Process {
    pub(crate) leads: bool,
    /// It sees changes, whether it leads or not.
    pub(crate) is_alive: bool,
    pub(crate) feeds: Feeds,
    pub(crate) stores: Stores,
    pub(crate) memory: Arc<Memory>,
    pub(crate) contests: Contests,
    /// ServiceAccounts after our own writes, for as long as the watch lags behind.
    echoes: HashMap<Key, Echo<Arc<ServiceAccount>>>,
    /// When each binding is looked at next.
    pub(crate) due: BTreeMap<usize, Duration>,
    /// When the links of each ServiceAccount are.
    pub(crate) accounts_due: BTreeMap<Key, Duration>,
    /// Passes over each binding.
    pub(crate) passes: BTreeMap<usize, usize>,
}

fn binding_ref(slot: usize) -> BindingRef {
    let (api, name, namespace) = place(slot);
    BindingRef::new_with(name, api).within(namespace)
}

impl Process {
    /// One that leads, has seen everything once, and remembers nothing.
    pub(crate) fn started(objects: &Objects, now: Duration) -> Self {
        let (mut feeds, stores, memory) = watched();
        feeds.list(objects, now);
        let mut process = Self {
            leads: true,
            is_alive: true,
            feeds,
            stores,
            memory,
            contests: Contests::default(),
            echoes: HashMap::new(),
            due: BTreeMap::new(),
            accounts_due: BTreeMap::new(),
            passes: BTreeMap::new(),
        };
        process.deliver(now);
        process
    }

    /// Sees what is to be seen by now, and is woken by it.
    pub(crate) fn deliver(&mut self, now: Duration) {
        for wake in self.feeds.deliver(now) {
            match wake {
                Wake::Binding(binding) => {
                    let slot = (0..SLOTS).find(|slot| binding_ref(*slot) == binding);
                    self.wake(slot.unwrap(), now);
                }
                Wake::Account(account) => {
                    let key = (account.namespace.unwrap_or_default(), account.name);
                    self.accounts_due.insert(key, now);
                }
            }
        }
    }

    pub(crate) fn wake(&mut self, slot: usize, now: Duration) {
        self.due.insert(slot, now);
    }

    /// Looks again then, unless it was woken meanwhile.
    pub(crate) fn requeue(&mut self, slot: usize, at: Duration) {
        let woken = self.due.get(&slot).copied();
        self.due.insert(slot, woken.map_or(at, |woken| woken.min(at)));
    }

    /// Everything is looked at, as when the clock was set.
    pub(crate) fn wake_all(&mut self, now: Duration) {
        let known = (0..SLOTS).filter(|slot| self.stores.bindings.get(&binding_ref(*slot)).is_some());
        self.due = known.map(|slot| (slot, now)).collect();
    }

    /// When there is something to do.
    pub(crate) fn next_task(&self) -> Option<Duration> {
        let tasks = self.due.values().chain(self.accounts_due.values());
        self.leads.then(|| tasks.min().copied()).flatten()
    }

    pub(crate) fn binding(&self, slot: usize) -> Option<Arc<Binding>> {
        self.stores.bindings.get(&binding_ref(slot))
    }

    /// The Secret of a binding, as it is watched.
    pub(crate) fn secret(&self, slot: usize) -> Option<Arc<SeenSecret>> {
        let (namespace, name) = secret_key(slot);
        self.stores.secrets.get(&ObjectRef::new(&name).within(&namespace))
    }

    /// As `links::keeper`: as watched, or as we last wrote it if the watch lags behind.
    pub(crate) fn account(&mut self, key: &Key) -> Option<Arc<ServiceAccount>> {
        let Some(seen) = self.seen_account(key) else {
            self.echoes.remove(key);
            return None;
        };
        let version = seen.resource_version().unwrap_or_default();
        let mut echo = self.echoes.remove(key);
        let newest = Echo::newer(&mut echo, &version, seen);
        self.echoes.extend(echo.map(|echo| (key.clone(), echo)));
        Some(newest)
    }

    /// A ServiceAccount was written, over this version.
    pub(crate) fn remember_account(&mut self, key: &Key, over: Option<String>, after: ServiceAccount) {
        let seen = self
            .seen_account(key)
            .and_then(|account| account.resource_version());
        let echo = Echo::after(
            self.echoes.get(key),
            over.into_iter().chain(seen),
            Arc::new(after),
        );
        self.echoes.insert(key.clone(), echo);
    }

    fn seen_account(&self, (namespace, name): &Key) -> Option<Arc<ServiceAccount>> {
        self.stores.accounts.store().get(&account_ref(namespace, name))
    }
}
