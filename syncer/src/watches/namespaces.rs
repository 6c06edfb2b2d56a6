//! Watches of several namespaces as one: what comes out is what a single watch of all of them would deliver, so that
//! they fill one store. Decides nothing about objects.
//!
//! To the outside there is one first state, when every namespace has delivered its own. Later lists of a single
//! namespace, after a watch broke off, come out as changes: a store that was told of a new first state would forget the
//! other namespaces.

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

type Delivered<K> = watcher::Result<Delivery<K>>;

/// One watch over all parts; `watch` makes the watch of one. `store` is the one that they fill together.
pub(super) fn as_one<T, K, S>(
    mut parts: Vec<Part<T>>,
    store: Store<K>,
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
            merged(watches.collect(), store).boxed()
        }
    }
}

fn merged<K>(
    watches: Vec<(String, BoxStream<'static, Delivered<K>>)>,
    store: Store<K>,
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
}

/// How far the watch of one namespace has come.
#[derive(Default)]
struct Progress {
    state: State,
    /// The names that the list that is being read has brought, once the first state is complete.
    listed: HashSet<String>,
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
            Ok(Delivery::Event(Event::InitApply(_))) => progress.state = State::Listing,
            Ok(Delivery::Event(Event::Init)) if progress.state == State::Listed => {
                progress.state = State::Listing;
            }
            Ok(Delivery::Event(Event::InitDone)) => progress.state = State::Listed,
            Err(error) if is_refused(error) => progress.state = State::Refused,
            Ok(_) | Err(_) => {}
        }
        if self.first.is_some() {
            return self.gather(namespace, delivered);
        }
        match delivered {
            Ok(Delivery::Event(Event::Init)) => {
                progress.listed.clear();
                Vec::new()
            }
            Ok(Delivery::Event(Event::InitApply(object))) => {
                progress.listed.insert(name(object.meta()).to_owned());
                vec![Ok(Delivery::Event(Event::Apply(object)))]
            }
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
            other => vec![other],
        }
    }

    /// Collects the first state, and delivers it once every namespace has told its own.
    fn gather(&mut self, namespace: &str, delivered: Delivered<K>) -> Vec<Delivered<K>> {
        let mut told = Vec::new();
        let Some(first) = &mut self.first else {
            return told;
        };
        let key = |metadata: &ObjectMeta| (namespace.to_owned(), name(metadata).to_owned());
        match delivered {
            Ok(Delivery::Event(Event::Init)) => first.retain(|(of, _name), _object| of != namespace),
            Ok(Delivery::Event(Event::InitApply(object) | Event::Apply(object))) => {
                first.insert(key(object.meta()), object);
            }
            Ok(Delivery::Event(Event::Delete(object))) => {
                first.remove(&key(object.meta()));
            }
            Ok(Delivery::Unreadable(metadata)) => {
                first.remove(&key(&metadata));
            }
            Ok(Delivery::Event(Event::InitDone)) => {}
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
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403
    )
}

#[cfg(test)]
mod tests;
