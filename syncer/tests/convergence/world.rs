//! The world that the syncer works on: the objects, the broker, the clock, and what the process remembers. It wakes the
//! bindings whose objects changed, as far as a watch sees that: not for a Secret without our label.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{ResourceExt as _, runtime::watcher::Event};
use syncer::{
    binding::{ApiVersion, Binding, Bindings, PerApi},
    contest::Fight,
    indexed::IndexedWriter,
    links::{self, Target, contests::Contests},
    memory::{BindingMemory, Memory},
    plan::Snapshot,
    pull_secret::{self, BINDING_LABEL, SecretState},
    schedule::later,
};

use crate::{
    broker::{Broker, meaning},
    right,
    server::{Key, Server, key, secret_key},
};

/// A failed write of links is repeated after this.
const LINK_RETRY: Duration = Duration::from_secs(15);
/// A pass that writes wakes its own binding; more passes than this at one time are a loop without a pause.
const MOST_AT_ONCE: usize = 12;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) broker: Broker,
    pub(crate) memory: Memory,
    watched: Watched,
    pub(crate) contests: Contests,
    pub(crate) now: Timestamp,
    /// When each binding is looked at next.
    pub(crate) due: BTreeMap<usize, Timestamp>,
    /// When the links of each ServiceAccount are.
    pub(crate) accounts_due: BTreeMap<Key, Timestamp>,
    /// Passes over each binding.
    pub(crate) passes: BTreeMap<usize, usize>,
    dice: u64,
}

/// Tells the memory which bindings there are.
struct Watched(PerApi<IndexedWriter<Binding>>);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl World {
    pub(crate) fn new(now: Timestamp, dice: u64) -> Self {
        let (bindings, writers) = Bindings::empty();
        Self {
            server: Server::default(),
            broker: Broker::default(),
            memory: Memory::new(bindings),
            watched: Watched(writers),
            contests: Contests::default(),
            now,
            due: BTreeMap::new(),
            accounts_due: BTreeMap::new(),
            passes: BTreeMap::new(),
            dice,
        }
    }

    /// A process that remembers nothing.
    pub(crate) fn forget(&mut self) {
        let (bindings, writers) = Bindings::empty();
        self.memory = Memory::new(bindings);
        self.watched = Watched(writers);
        self.contests = Contests::default();
    }

    /// The clock that nobody sets; here it goes with the other one.
    pub(crate) fn monotonic(&self) -> Duration {
        Duration::from_secs(self.now.as_second().unsigned_abs())
    }

    /// Shows the process which bindings there are.
    pub(crate) fn watch(&mut self) {
        let all = self.server.objects.bindings.values();
        let mut states = PerApi::new(|_api| vec![Event::Init]);
        for binding in all {
            states.of_mut(binding.api).push(Event::InitApply(binding.clone()));
        }
        for api in ApiVersion::ALL {
            for event in states.of(api).iter().chain([&Event::InitDone]) {
                self.watched.0.of_mut(api).apply_watcher_event(event);
            }
        }
    }

    /// A number in [0, 1), another one each time and the same ones each time that a case is run.
    pub(crate) fn draw(&mut self) -> f64 {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.dice >> 32).unwrap()) / (f64::from(u32::MAX) + 1.0)
    }

    /// All that a decision on this binding depends on, but for what is remembered.
    pub(crate) fn snapshot(&self, slot: usize, memory: BindingMemory) -> Snapshot {
        let binding = Arc::new(self.server.objects.bindings[&slot].clone());
        let account = |name: &str| {
            let key = (binding.namespace().unwrap_or_default(), name.to_owned());
            self.server.objects.accounts.get(&key).cloned().map(Arc::new)
        };
        Snapshot {
            targets: self.targets(&binding),
            secret_fight: self.secret_fight(&memory),
            identity_account: binding.identity_account().and_then(account),
            secret: self.secret(&binding),
            memory,
            allowed_servers: "azurecr.io".parse().unwrap(),
            reapply_at: None,
            binding,
        }
    }

    pub(crate) fn secret_fight(&self, memory: &BindingMemory) -> Option<Fight> {
        let fight = memory.secret_contest.fight(self.monotonic())?;
        Some(fight.told_at(self.monotonic(), self.now))
    }

    pub(crate) fn remembered(&self, slot: usize) -> BindingMemory {
        let binding = &self.server.objects.bindings[&slot];
        let uid = binding.uid().unwrap_or_default();
        self.memory.of(&binding.key(), &uid, self.now)
    }

    pub(crate) fn targets(&self, binding: &Binding) -> Vec<Target> {
        let (namespace, secret_name) = secret_key(binding);
        let target = |name: &str| {
            let account = self
                .server
                .objects
                .accounts
                .get(&(namespace.clone(), name.to_owned()));
            let account = account.cloned().map(|mut account| {
                links::slim(&mut account);
                account
            });
            Target {
                name: name.to_owned(),
                fight: account
                    .as_ref()
                    .and_then(|account| self.contests.fight(account, &secret_name, self.monotonic()))
                    .map(|fight| fight.told_at(self.monotonic(), self.now)),
                account: account.map(Arc::new),
            }
        };
        binding.spec.accounts().into_iter().map(target).collect()
    }

    /// As the watch shows it, or a live read if it has no label of ours.
    fn secret(&self, binding: &Binding) -> SecretState {
        let secret = self.server.objects.secrets.get(&secret_key(binding));
        secret.map_or(SecretState::Absent, |secret| {
            let mut metadata = secret.metadata.clone();
            if is_watched(secret) {
                pull_secret::slim(&mut metadata);
            }
            pull_secret::judge(&metadata, binding)
        })
    }

    /// Wakes everybody, as the begin of a process does.
    pub(crate) fn wake_all(&mut self) {
        self.due = self
            .server
            .objects
            .bindings
            .keys()
            .map(|slot| (*slot, self.now))
            .collect();
        let accounts = self.server.objects.accounts.keys().cloned();
        self.accounts_due = accounts.map(|key| (key, self.now)).collect();
    }

    /// Wakes whom the change of this Secret concerns.
    pub(crate) fn wake_for_secret(&mut self, before: Option<&Secret>, after: Option<&Secret>) {
        let (before, after) = (
            before.filter(|one| is_watched(one)),
            after.filter(|one| is_watched(one)),
        );
        let Some(binding) = after
            .or(before)
            .and_then(|seen| pull_secret::binding_of(&seen.metadata))
        else {
            return;
        };
        let bindings = &self.server.objects.bindings;
        let slot = bindings
            .iter()
            .find(|(_slot, one)| one.key() == binding)
            .map(|(slot, _)| *slot);
        self.due.extend(slot.map(|slot| (slot, self.now)));
    }

    /// Wakes whom the change of this ServiceAccount concerns.
    pub(crate) fn wake_for_account(&mut self, account: &Key) {
        let (namespace, name) = account;
        let concerned = self.server.objects.bindings.iter().filter(|(_slot, binding)| {
            binding.metadata.namespace.as_ref() == Some(namespace)
                && (binding.spec.is_for(name) || binding.identity_account() == Some(name))
        });
        let concerned: Vec<_> = concerned.map(|(slot, _)| (*slot, self.now)).collect();
        self.due.extend(concerned);
        self.accounts_due.insert(account.clone(), self.now);
    }

    /// Wakes the binding, and the ServiceAccounts that may list its Secret for no reason now.
    pub(crate) fn wake_for_binding(&mut self, slot: usize, secret: &Key) {
        self.due.remove(&slot);
        if self.server.objects.bindings.contains_key(&slot) {
            self.due.insert(slot, self.now);
        }
        let accounts = self.server.objects.accounts.iter();
        let recording = accounts.filter(|((namespace, _name), account)| {
            *namespace == secret.0 && links::record(account).contains(&secret.1)
        });
        let recording: Vec<_> = recording.map(|(key, _)| (key.clone(), self.now)).collect();
        self.accounts_due.extend(recording);
    }

    /// Lets time pass, and the syncer work.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = later(self.now, time);
        let mut at_once = BTreeMap::<usize, usize>::new();
        while let Some(next) = self.next_wake().filter(|next| *next <= end) {
            if next > self.now {
                self.now = next;
                at_once.clear();
            }
            let account = self.accounts_due.iter().find(|(_key, at)| **at <= self.now);
            if let Some(account) = account.map(|(key, _at)| key.clone()) {
                self.accounts_due.remove(&account);
                if self.settle_links(&account, None).is_err() {
                    self.accounts_due.insert(account, later(self.now, LINK_RETRY));
                }
                continue;
            }
            let binding = self.due.iter().find(|(_slot, at)| **at <= self.now);
            let slot = *binding.unwrap().0;
            let count = at_once.entry(slot).or_default();
            *count += 1;
            assert!(
                *count <= MOST_AT_ONCE,
                "binding {slot} is worked on without a pause"
            );
            self.look_at(slot);
        }
        self.now = end;
    }

    /// When something is to be done next.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        self.due.values().chain(self.accounts_due.values()).min().copied()
    }

    /// One pass, and what no pass may do.
    pub(crate) fn look_at(&mut self, slot: usize) {
        let (before, asked) = (self.server.objects.clone(), self.broker.questions);
        let binding = before.bindings[&slot].clone();
        let secret_key = secret_key(&binding);
        *self.passes.entry(slot).or_default() += 1;
        let request = binding.annotations().get(pull_secret::REFRESH_REQUESTED);
        let next_at = self.pass(slot);
        match next_at {
            Some(at) => self.due.insert(slot, at),
            None => self.due.remove(&slot),
        };
        let was = before.secrets.get(&secret_key).cloned();
        let is = self.server.objects.secrets.get(&secret_key).cloned();
        let written = self.broker.questions - asked;
        assert!(written <= 1, "{written} questions in one pass");
        if was
            .as_ref()
            .is_some_and(|secret| right::is_foreign(secret, &binding))
        {
            assert_eq!(was, is, "a foreign Secret");
            assert_eq!(written, 0, "nothing is asked for a foreign Secret");
        }
        let others = |secrets: &BTreeMap<Key, Secret>| {
            let mut others = secrets.clone();
            others.remove(&secret_key);
            others
        };
        assert_eq!(
            others(&before.secrets),
            others(&self.server.objects.secrets),
            "Secrets of others"
        );
        if was != is {
            self.check_write(slot, was.as_ref(), is.as_ref(), request.is_some());
            self.wake_for_secret(was.as_ref(), is.as_ref());
        }
    }

    /// What a write of a Secret may change.
    fn check_write(&self, slot: usize, was: Option<&Secret>, is: Option<&Secret>, is_requested: bool) {
        let is = is.expect("a Secret of ours is never removed");
        if let Some(was) = was {
            assert_eq!(was.metadata.uid, is.metadata.uid, "it is written in place");
            assert_eq!(was.type_, is.type_);
        }
        let Some(wanted) = right::wanted(self, slot) else {
            assert_eq!(was.and_then(|was| was.data.as_ref()), is.data.as_ref());
            return;
        };
        let meant = meaning(&wanted);
        let token = |secret: &Secret| self.broker.issued.get(right::payload(secret)).cloned();
        if was.and_then(|was| was.data.as_ref()) != is.data.as_ref() {
            let new = token(is).expect("a payload is one that the broker sent");
            assert_eq!(new.issued_for, meant, "a payload is one for what is wanted now");
            let old = was.and_then(token).filter(|old| old.issued_for == meant);
            if let Some(old) = old.filter(|old| old.expires_at > self.now && !is_requested) {
                // Another ServiceAccount is another question, and what somebody else wrote is not known to be a token.
                let was_ours =
                    was.is_some_and(|was| right::is_written_by_us(was) && right::is_for(was, &wanted));
                assert!(
                    !was_ours || new.expires_at >= old.expires_at,
                    "a token is replaced by an older one"
                );
            }
        }
        if let Some(new) = token(is).filter(|_| right::is_written_by_us(is)) {
            let told = Server::expiry(is).map(Timestamp::as_second);
            assert_eq!(
                told,
                Some(new.expires_at.as_second()),
                "the annotations tell the end of the token"
            );
        }
    }

    /// The ServiceAccounts that are there.
    pub(crate) fn account_keys(&self) -> BTreeSet<Key> {
        let accounts = self.server.objects.accounts.values();
        accounts.map(|account| key(&account.metadata)).collect()
    }
}

fn is_watched(secret: &Secret) -> bool {
    let labels = secret.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(BINDING_LABEL))
}
