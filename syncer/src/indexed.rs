//! The store of a watch that can be asked for one namespace. A ServiceAccount and its bindings are in one namespace, so
//! a change costs what its own namespace holds, however many others there are.
//!
//! Only names are kept beside the store. They are a few too many while a change is being applied, and never too few:
//! one that the store does not know is passed over.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
};

use kube::{
    Resource,
    runtime::{
        reflector::{ObjectRef, Store, store::Writer},
        watcher::Event,
    },
};

type Names = HashMap<String, BTreeSet<String>>;

/// What a watch knows.
pub struct Indexed<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    store: Store<K>,
    names: Arc<RwLock<Names>>,
    kind: K::DynamicType,
}

/// The end that the watch fills.
pub struct IndexedWriter<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    writer: Writer<K>,
    /// None where nobody asks for a namespace.
    names: Option<Arc<RwLock<Names>>>,
}

impl<K> fmt::Debug for Indexed<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Indexed").finish_non_exhaustive()
    }
}

/// An empty store, and the end that fills it.
pub fn store<K>(kind: K::DynamicType) -> (Indexed<K>, IndexedWriter<K>)
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    let (writer, names) = (Writer::new(kind.clone()), Arc::default());
    let indexed = Indexed {
        store: writer.as_reader(),
        names: Arc::clone(&names),
        kind,
    };
    (
        indexed,
        IndexedWriter {
            writer,
            names: Some(names),
        },
    )
}

impl<K> Indexed<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    /// All of it, without the namespaces.
    pub fn store(&self) -> &Store<K> {
        &self.store
    }

    /// Those of a namespace for which `predicate` holds.
    pub fn in_namespace(&self, namespace: &str, predicate: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names
            .get(namespace)
            .into_iter()
            .flatten()
            .filter_map(|name| {
                let key = ObjectRef::new_with(name, self.kind.clone()).within(namespace);
                self.store.get(&key)
            })
            .filter(|object| predicate(object))
            .collect()
    }
}

impl<K> Clone for Indexed<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            names: Arc::clone(&self.names),
            kind: self.kind.clone(),
        }
    }
}

impl<K> From<Writer<K>> for IndexedWriter<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    /// For a store that nobody asks for a namespace.
    fn from(writer: Writer<K>) -> Self {
        Self { writer, names: None }
    }
}

impl<K> IndexedWriter<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    /// What was written.
    pub fn as_reader(&self) -> Store<K> {
        self.writer.as_reader()
    }

    /// Puts what came from the watch into the store. A name goes in before its object and out after it.
    pub fn apply_watcher_event(&mut self, event: &Event<K>) {
        let Some(names) = &self.names else {
            self.writer.apply_watcher_event(event);
            return;
        };
        let names = || names.write().unwrap_or_else(PoisonError::into_inner);
        if let Event::Apply(object) | Event::InitApply(object) = event {
            add(&mut names(), object);
        }
        self.writer.apply_watcher_event(event);
        match event {
            Event::Delete(object) => remove(&mut names(), object),
            // What went missing while the watch was down goes without an event of its own.
            Event::InitDone => {
                let mut left = Names::new();
                for object in self.writer.as_reader().state() {
                    add(&mut left, object.as_ref());
                }
                *names() = left;
            }
            Event::Apply(_) | Event::Init | Event::InitApply(_) => {}
        }
    }
}

fn add(names: &mut Names, object: &impl Resource) {
    let metadata = object.meta();
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let name = metadata.name.clone().unwrap_or_default();
    names.entry(namespace).or_default().insert(name);
}

fn remove(names: &mut Names, object: &impl Resource) {
    let metadata = object.meta();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let Some(of_namespace) = names.get_mut(namespace) else {
        return;
    };
    of_namespace.remove(metadata.name.as_deref().unwrap_or_default());
    if of_namespace.is_empty() {
        names.remove(namespace);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use k8s_openapi::api::core::v1::ServiceAccount;
    use kube::ResourceExt as _;

    use super::*;
    use crate::samples::account;

    fn in_namespace(namespace: &str, name: &str) -> ServiceAccount {
        let mut account = account(name);
        account.metadata.namespace = Some(namespace.to_owned());
        account
    }

    fn found(indexed: &Indexed<ServiceAccount>, namespace: &str) -> Vec<String> {
        let found = indexed.in_namespace(namespace, |_account| true);
        found.iter().map(|account| account.name_any()).collect()
    }

    #[test]
    fn indexed_look_up_visits_no_other_namespace() {
        let (indexed, mut writer) = store::<ServiceAccount>(());
        let visited = |namespaces: usize, writer: &mut IndexedWriter<ServiceAccount>| {
            for number in 0..namespaces {
                for name in ["a", "b", "c"] {
                    writer.apply_watcher_event(&Event::Apply(in_namespace(&format!("ns-{number}"), name)));
                }
            }
            let visits = Cell::new(0);
            indexed.in_namespace("ns-0", |_account| {
                visits.set(visits.get() + 1);
                false
            });
            visits.get()
        };
        assert_eq!(visited(1, &mut writer), 3);
        assert_eq!(visited(2_000, &mut writer), 3);
        assert_eq!(indexed.store().len(), 6_000);
    }

    #[test]
    fn indexed_look_up_follows_the_watch() {
        let (indexed, mut writer) = store::<ServiceAccount>(());
        for name in ["a", "b"] {
            writer.apply_watcher_event(&Event::Apply(in_namespace("shop", name)));
        }
        assert_eq!(found(&indexed, "shop"), ["a", "b"]);
        writer.apply_watcher_event(&Event::Delete(in_namespace("shop", "a")));
        assert_eq!(found(&indexed, "shop"), ["b"]);
        writer.apply_watcher_event(&Event::Delete(in_namespace("shop", "b")));
        assert!(
            indexed.names.read().unwrap().is_empty(),
            "an empty namespace costs nothing"
        );
    }

    #[test]
    fn indexed_look_up_after_a_new_list_knows_what_is_in_it() {
        let (indexed, mut writer) = store::<ServiceAccount>(());
        for name in ["a", "b"] {
            writer.apply_watcher_event(&Event::Apply(in_namespace("shop", name)));
        }
        writer.apply_watcher_event(&Event::Init);
        for name in ["b", "c"] {
            writer.apply_watcher_event(&Event::InitApply(in_namespace("shop", name)));
        }
        assert_eq!(
            found(&indexed, "shop"),
            ["a", "b"],
            "the old list counts until the new one is whole"
        );
        writer.apply_watcher_event(&Event::InitDone);
        assert_eq!(found(&indexed, "shop"), ["b", "c"]);
        assert_eq!(indexed.names.read().unwrap()["shop"].len(), 2);
    }
}
