//! What the watches show a process: each kind in order, every change at once or a while later, and no two kinds in step.
//! Whom a change wakes is what the product's own router says.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource,
    core::{PartialObjectMeta, PartialObjectMetaExt as _},
    runtime::{
        reflector::{ObjectRef, Store, store::Writer},
        watcher::Event,
    },
};
use syncer::{
    binding::{self, ApiVersion, Binding, Bindings, PerApi},
    indexed::{self, Indexed, IndexedWriter},
    links,
    memory::Memory,
    pull_secret::{self, BINDING_LABEL},
    watches::router::{Change, Router, Wake},
};

use crate::server::Objects;

pub(crate) type SeenSecret = PartialObjectMeta<Secret>;

/// A change of one of the kinds.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Binding(ApiVersion, Box<Event<Binding>>),
    Account(Event<ServiceAccount>),
    Secret(Event<SeenSecret>),
}

/// The watch of one kind.
struct Feed<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    kind: K::DynamicType,
    writer: IndexedWriter<K>,
    /// From when on each is to be seen.
    pending: VecDeque<(Duration, Event<K>)>,
    lag: Duration,
}

/// All watches of a process.
pub(crate) struct Feeds {
    bindings: PerApi<Feed<Binding>>,
    accounts: Feed<ServiceAccount>,
    secrets: Feed<SeenSecret>,
    router: Router,
}

/// What they have filled.
pub(crate) struct Stores {
    pub(crate) bindings: Bindings,
    pub(crate) accounts: Indexed<ServiceAccount>,
    pub(crate) secrets: Store<SeenSecret>,
}

/// Watches that have shown nothing yet, what they fill, and a memory of the bindings in it.
pub(crate) fn watched() -> (Feeds, Stores, Arc<Memory>) {
    let (bindings, PerApi { v1beta2, v1beta1 }) = Bindings::empty();
    let (accounts, account_writer) = indexed::store::<ServiceAccount>(());
    let secret_writer = Writer::<SeenSecret>::new(());
    let secrets = secret_writer.as_reader();
    let memory = Arc::new(Memory::new(bindings.clone()));
    let feeds = Feeds {
        bindings: PerApi {
            v1beta2: Feed::new(ApiVersion::V1Beta2, v1beta2),
            v1beta1: Feed::new(ApiVersion::V1Beta1, v1beta1),
        },
        accounts: Feed::new((), account_writer),
        secrets: Feed::new((), secret_writer.into()),
        router: Router::new(
            Arc::clone(&memory),
            Arc::default(),
            bindings.clone(),
            accounts.clone(),
        ),
    };
    let stores = Stores {
        bindings,
        accounts,
        secrets,
    };
    (feeds, stores, memory)
}

impl Feeds {
    /// How late each of the kinds is from now on.
    pub(crate) fn lag(&mut self, [bindings, accounts, secrets]: [Duration; 3]) {
        for api in ApiVersion::ALL {
            self.bindings.of_mut(api).lag = bindings;
        }
        self.accounts.lag = accounts;
        self.secrets.lag = secrets;
    }

    /// A change is on its way; `draw` is a number in [0, 1).
    pub(crate) fn push(&mut self, seen: Seen, now: Duration, draw: f64) {
        match seen {
            Seen::Binding(api, event) => self.bindings.of_mut(api).push(*event, now, draw),
            Seen::Account(event) => self.accounts.push(event, now, draw),
            Seen::Secret(event) => self.secrets.push(event, now, draw),
        }
    }

    /// Every kind is listed anew. What was on its way is in the list.
    pub(crate) fn list(&mut self, objects: &Objects, now: Duration) {
        for api in ApiVersion::ALL {
            let bindings = objects.bindings.values().filter(|binding| binding.api == api);
            self.bindings.of_mut(api).list(bindings.map(seen_binding), now);
        }
        self.accounts
            .list(objects.accounts.values().map(seen_account), now);
        self.secrets
            .list(objects.secrets.values().filter_map(seen_secret), now);
    }

    /// When the next change is to be seen.
    pub(crate) fn next(&self) -> Option<Duration> {
        let bindings = ApiVersion::ALL.map(|api| self.bindings.of(api).next());
        let others = [self.accounts.next(), self.secrets.next()];
        bindings.into_iter().chain(others).flatten().min()
    }

    /// When the last one that is on its way is.
    pub(crate) fn last(&self) -> Option<Duration> {
        let bindings = ApiVersion::ALL.map(|api| self.bindings.of(api).last());
        let others = [self.accounts.last(), self.secrets.last()];
        bindings.into_iter().chain(others).flatten().max()
    }

    /// Shows all that is to be seen by now, and whom it wakes.
    pub(crate) fn deliver(&mut self, now: Duration) -> Vec<Wake> {
        let Self {
            bindings,
            accounts,
            secrets,
            router,
        } = self;
        let mut wakes = Vec::new();
        for api in ApiVersion::ALL {
            let route = |change: &Change<'_, Binding>| router.binding(api, change);
            wakes.extend(bindings.of_mut(api).deliver(now, route));
        }
        wakes.extend(accounts.deliver(now, |change| router.account(change)));
        wakes.extend(secrets.deliver(now, |change| router.secret(change)));
        wakes
    }
}

impl<K> Feed<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    fn new(kind: K::DynamicType, writer: IndexedWriter<K>) -> Self {
        Self {
            kind,
            writer,
            pending: VecDeque::new(),
            lag: Duration::ZERO,
        }
    }

    fn push(&mut self, event: Event<K>, now: Duration, draw: f64) {
        let at = now + self.lag.mul_f64(draw);
        let last = self.pending.back().map_or(at, |(last, _event)| *last);
        self.pending.push_back((at.max(last), event));
    }

    fn list(&mut self, objects: impl Iterator<Item = K>, now: Duration) {
        let listed = objects.map(Event::InitApply);
        let events = [Event::Init].into_iter().chain(listed).chain([Event::InitDone]);
        self.pending = events.map(|event| (now, event)).collect();
    }

    fn next(&self) -> Option<Duration> {
        self.pending.front().map(|(at, _event)| *at)
    }

    fn last(&self) -> Option<Duration> {
        self.pending.back().map(|(at, _event)| *at)
    }

    /// As `watches::watch` does it.
    fn deliver(&mut self, now: Duration, route: impl Fn(&Change<'_, K>) -> Vec<Wake>) -> Vec<Wake> {
        let mut wakes = Vec::new();
        while let Some((_at, event)) = self.pending.pop_front_if(|(at, _event)| *at <= now) {
            let store = self.writer.as_reader();
            let key = |object: &K| ObjectRef::from_obj_with(object, self.kind.clone());
            let change = Change::of(&event, |object| store.get(&key(object)));
            self.writer.apply_watcher_event(&event);
            wakes.extend(change.iter().flat_map(&route));
        }
        wakes
    }
}

/// What happened between two states.
pub(crate) fn changes(before: &Objects, after: &Objects) -> Vec<Seen> {
    let bindings = events(&before.bindings, &after.bindings, |binding| {
        Some(seen_binding(binding))
    });
    let accounts = events(&before.accounts, &after.accounts, |account| {
        Some(seen_account(account))
    });
    let secrets = events(&before.secrets, &after.secrets, seen_secret);
    let bindings = bindings.into_iter().filter_map(|event| {
        let (Event::Apply(binding) | Event::Delete(binding)) = &event else {
            return None;
        };
        Some(Seen::Binding(binding.api, Box::new(event)))
    });
    bindings
        .chain(accounts.into_iter().map(Seen::Account))
        .chain(secrets.into_iter().map(Seen::Secret))
        .collect()
}

/// The same of one kind. What is not to be `seen` any more is as good as gone.
fn events<Id: Ord, T: Resource, K>(
    before: &BTreeMap<Id, T>,
    after: &BTreeMap<Id, T>,
    seen: impl Fn(&T) -> Option<K>,
) -> Vec<Event<K>> {
    let mut events = Vec::new();
    for (id, was) in before {
        let is = after.get(id).filter(|is| is.meta().uid == was.meta().uid);
        match is {
            Some(is) if is.meta().resource_version == was.meta().resource_version => {}
            Some(is) => match (seen(was), seen(is)) {
                (_, Some(is)) => events.push(Event::Apply(is)),
                (was, None) => events.extend(was.map(Event::Delete)),
            },
            None => events.extend(seen(was).map(Event::Delete)),
        }
    }
    for (id, is) in after {
        let is_new = before.get(id).is_none_or(|was| was.meta().uid != is.meta().uid);
        events.extend(is_new.then(|| seen(is)).flatten().map(Event::Apply));
    }
    events
}

fn seen_binding(binding: &Binding) -> Binding {
    let mut binding = binding.clone();
    binding::slim(&mut binding.metadata);
    binding
}

fn seen_account(account: &ServiceAccount) -> ServiceAccount {
    let mut account = account.clone();
    links::slim(&mut account);
    account
}

/// Only with our label, and no content.
fn seen_secret(secret: &Secret) -> Option<SeenSecret> {
    let labels = secret.metadata.labels.as_ref()?;
    let mut metadata: ObjectMeta = labels
        .contains_key(BINDING_LABEL)
        .then(|| secret.metadata.clone())?;
    pull_secret::slim(&mut metadata);
    Some(metadata.into_response_partial())
}
