//! Watches of several namespaces as one: what comes out is what a single watch of all of them would deliver, so that
//! they fill one store. Decides nothing about objects.
//!
//! To the outside there is one first state, when every namespace has delivered its own. Later lists of a single
//! namespace, after a watch broke off, come out as changes: a store that was told of a new first state would forget the
//! other namespaces.
//!
//! What is in a namespace that may not be read any more comes out as gone after a while, so that nobody goes on with it.
//! Nothing is removed in the cluster for that: a link goes only after a look at the live bindings, which is refused too.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    runtime::{
        reflector::Store,
        watcher::{self, Event},
    },
};

use super::unreadable::Delivery;
use crate::namespaces::Part;

/// So often in a row a namespace is refused before its objects are let go: with the pauses of `persistent` it takes
/// about a minute, and a Role that is replaced is back by then.
const REFUSALS: u32 = 10;

type Delivered<K> = watcher::Result<Delivery<K>>;
/// Whether the objects of a namespace are needed though they may not be read any more.
type IsNeeded = Box<dyn Fn(&str) -> bool + Send>;

/// One watch over all parts; `watch` makes the watch of one. `store` is the one that they fill together, and `is_needed`
/// keeps in it what others still work with.
pub(super) fn as_one<T, K, S>(
    mut parts: Vec<Part<T>>,
    store: Store<K>,
    is_needed: impl Fn(&str) -> bool + Send + 'static,
    watch: impl Fn(kube::Api<T>) -> S,
) -> BoxStream<'static, Delivered<K>>
where
    K: Resource<DynamicType: Clone + Eq + std::hash::Hash + Send + Sync> + Clone + Send + Sync + 'static,
    S: Stream<Item = Delivered<K>> + Send + 'static,
{
    match parts.pop() {
        Some(only) if parts.is_empty() => watch(only.api).boxed(),
        last => {
            let watches = parts.into_iter().chain(last).map(|part| {
                let namespace = part.namespace.unwrap_or_default();
                (namespace, watch(part.api).boxed())
            });
            merged(watches.collect(), store, Box::new(is_needed)).boxed()
        }
    }
}

fn merged<K>(
    watches: Vec<(String, BoxStream<'static, Delivered<K>>)>,
    store: Store<K>,
    is_needed: IsNeeded,
) -> impl Stream<Item = Delivered<K>>
where
    K: Resource<DynamicType: Clone + Eq + std::hash::Hash> + Clone + Send + Sync + 'static,
{
    let mut merge = Merge {
        first: Some(HashMap::new()),
        namespaces: watches
            .iter()
            .map(|(namespace, _watch)| (namespace.clone(), Progress::default()))
            .collect(),
        store,
        is_needed,
    };
    let tagged = watches
        .into_iter()
        .map(|(namespace, watch)| watch.map(move |delivered| (namespace.clone(), delivered)));
    // What one delivery comes to is taken up whole before the next is looked at, so the store is never behind.
    stream::select_all(tagged)
        .flat_map(move |(namespace, delivered)| stream::iter(merge.take(&namespace, delivered)))
}

/// How far the watches have come.
struct Merge<K>
where
    K: Resource<DynamicType: Clone + Eq + std::hash::Hash> + Clone + 'static,
{
    /// The objects of the first state, by namespace and name, until it is complete.
    first: Option<HashMap<(String, String), K>>,
    namespaces: BTreeMap<String, Progress>,
    store: Store<K>,
    is_needed: IsNeeded,
}

/// How far the watch of one namespace has come.
#[derive(Default)]
struct Progress {
    state: State,
    /// The names that the list that is being read has brought.
    listed: HashSet<String>,
    /// How often it was refused since something came.
    refusals: u32,
}

#[derive(Default, PartialEq, Eq)]
enum State {
    /// Its list is being read.
    #[default]
    Listing,
    /// Complete.
    Listed,
    /// The list was refused: the namespace is gone with its Roles, or was never there. The others do not wait for it.
    Refused,
}

impl<K> Merge<K>
where
    K: Resource<DynamicType: Clone + Eq + std::hash::Hash> + Clone + 'static,
{
    fn take(&mut self, namespace: &str, delivered: Delivered<K>) -> Vec<Delivered<K>> {
        let progress = self.namespaces.entry(namespace.to_owned()).or_default();
        match &delivered {
            // Every try begins like this, those that fail as well: it says nothing about what is known.
            Ok(Delivery::Event(Event::Init)) => progress.listed.clear(),
            Ok(Delivery::Event(Event::InitApply(object))) => {
                progress.state = State::Listing;
                progress.refusals = 0;
                progress.listed.insert(name(object.meta()).to_owned());
            }
            Ok(Delivery::Event(Event::InitDone)) => {
                progress.state = State::Listed;
                progress.refusals = 0;
            }
            Ok(_change) => progress.refusals = 0,
            Err(error) if is_refused(error) => {
                progress.state = State::Refused;
                progress.refusals = progress.refusals.saturating_add(1);
            }
            Err(_failure) => {}
        }
        if self.first.is_some() {
            return self.gather(namespace, delivered);
        }
        match delivered {
            Ok(Delivery::Event(Event::Init)) => Vec::new(),
            Ok(Delivery::Event(Event::InitApply(object))) => vec![Ok(Delivery::Event(Event::Apply(object)))],
            Ok(Delivery::Event(Event::InitDone)) => {
                let listed = std::mem::take(&mut progress.listed);
                let gone = |object: &K| {
                    object.meta().namespace.as_deref() == Some(namespace)
                        && !listed.contains(name(object.meta()))
                };
                let gone = self.store.state_filter(gone);
                gone.iter()
                    .map(|object| Ok(Delivery::Event(Event::Delete(K::clone(object)))))
                    .collect()
            }
            Err(error) if is_refused(&error) && progress.refusals >= REFUSALS => {
                let gone = self.let_go(namespace);
                std::iter::once(Err(error)).chain(gone).collect()
            }
            other => vec![other],
        }
    }

    /// The objects of a namespace as gone.
    fn let_go(&self, namespace: &str) -> Vec<Delivered<K>> {
        if (self.is_needed)(namespace) {
            return Vec::new();
        }
        let known = self
            .store
            .state_filter(|object: &K| object.meta().namespace.as_deref() == Some(namespace));
        if !known.is_empty() {
            tracing::warn!(
                namespace,
                objects = known.len(),
                "a namespace may not be read any more: what was known of it is let go, and nothing in it is changed"
            );
        }
        known
            .iter()
            .map(|object| Ok(Delivery::Event(Event::Delete(K::clone(object)))))
            .collect()
    }

    /// Collects the first state, and delivers it once every namespace has told its own.
    fn gather(&mut self, namespace: &str, delivered: Delivered<K>) -> Vec<Delivered<K>> {
        let mut told = Vec::new();
        let Some(first) = &mut self.first else {
            return told;
        };
        let key = |metadata: &ObjectMeta| (namespace.to_owned(), name(metadata).to_owned());
        match delivered {
            Ok(Delivery::Event(Event::Init)) => {}
            Ok(Delivery::Event(Event::InitApply(object) | Event::Apply(object))) => {
                first.insert(key(object.meta()), object);
            }
            Ok(Delivery::Event(Event::Delete(object))) => {
                first.remove(&key(object.meta()));
            }
            Ok(Delivery::Unreadable(metadata)) => {
                first.remove(&key(&metadata));
            }
            Ok(Delivery::Event(Event::InitDone)) => {
                let listed = self.namespaces.get_mut(namespace);
                let listed = listed.map(|progress| std::mem::take(&mut progress.listed));
                let listed = listed.unwrap_or_default();
                first.retain(|(of, name), _object| of != namespace || listed.contains(name));
            }
            Err(error) => told.push(Err(error)),
        }
        if self
            .namespaces
            .values()
            .any(|progress| progress.state == State::Listing)
        {
            return told;
        }
        let objects = self.first.take().into_iter().flatten();
        told.push(Ok(Delivery::Event(Event::Init)));
        told.extend(objects.map(|(_key, object)| Ok(Delivery::Event(Event::InitApply(object)))));
        told.push(Ok(Delivery::Event(Event::InitDone)));
        told
    }
}

fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

fn is_refused(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 403
    )
}

#[cfg(test)]
mod tests;
