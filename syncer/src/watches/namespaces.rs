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
mod tests {
    use kube::{
        ResourceExt as _,
        core::Status,
        runtime::reflector::{ObjectRef, store::Writer},
    };

    use super::*;
    use crate::{
        binding::{ApiVersion, Binding},
        samples::binding_of,
    };

    const API: ApiVersion = ApiVersion::V1Beta2;

    /// The adapter, with a store behind it that takes what comes out.
    struct Scene {
        merge: Merge<Binding>,
        writer: Writer<Binding>,
    }

    impl Scene {
        fn of(namespaces: &[&str]) -> Self {
            let writer = Writer::new(API);
            let namespaces = namespaces
                .iter()
                .map(|name| ((*name).to_owned(), Progress::default()));
            Self {
                merge: Merge {
                    first: Some(HashMap::new()),
                    namespaces: namespaces.collect(),
                    store: writer.as_reader(),
                },
                writer,
            }
        }

        /// One that has delivered its first state: `web` in each namespace.
        fn settled(namespaces: &[&str]) -> Self {
            let mut scene = Self::of(namespaces);
            for namespace in namespaces {
                scene.list(namespace, &["web"]);
            }
            scene
        }

        /// What comes out for one delivery.
        fn take(&mut self, namespace: &str, delivery: Delivered<Binding>) -> Vec<String> {
            let told = self.merge.take(namespace, delivery);
            let describe = |delivered: Delivered<Binding>| match delivered {
                Ok(Delivery::Event(event)) => {
                    self.writer.apply_watcher_event(&event);
                    let key =
                        |object: &Binding| format!("{}/{}", object.namespace().unwrap(), object.name_any());
                    match &event {
                        Event::Init => "init".to_owned(),
                        Event::InitApply(object) => format!("object {}", key(object)),
                        Event::InitDone => "done".to_owned(),
                        Event::Apply(object) => format!("applied {}", key(object)),
                        Event::Delete(object) => format!("deleted {}", key(object)),
                    }
                }
                Ok(Delivery::Unreadable(metadata)) => format!("unreadable {}", name(&metadata)),
                Err(_error) => "error".to_owned(),
            };
            told.into_iter().map(describe).collect()
        }

        fn event(&mut self, namespace: &str, event: Event<Binding>) -> Vec<String> {
            self.take(namespace, Ok(Delivery::Event(event)))
        }

        /// A whole list of one namespace.
        fn list(&mut self, namespace: &str, names: &[&str]) -> Vec<String> {
            let mut told = self.event(namespace, Event::Init);
            for name in names {
                told.extend(self.event(namespace, Event::InitApply(object(namespace, name))));
            }
            told.extend(self.event(namespace, Event::InitDone));
            told
        }

        fn refuse(&mut self, namespace: &str, code: u16) -> Vec<String> {
            let status = Status::failure("no", "").with_code(code);
            let error = watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)));
            self.take(namespace, Err(error))
        }

        fn stored(&self) -> Vec<String> {
            let all = self.writer.as_reader().state();
            let mut keys: Vec<_> = all
                .iter()
                .map(|object| ObjectRef::from_obj_with(object.as_ref(), API))
                .map(|key| format!("{}/{}", key.namespace.unwrap_or_default(), key.name))
                .collect();
            keys.sort();
            keys
        }
    }

    fn object(namespace: &str, name: &str) -> Binding {
        let mut binding = binding_of(API, name);
        binding.metadata.namespace = Some(namespace.to_owned());
        binding
    }

    #[test]
    fn namespaces_have_one_first_state_when_all_have_delivered() {
        let mut scene = Scene::of(&["a", "b"]);
        assert_eq!(scene.list("a", &["one", "two"]), [""; 0]);
        // Changes before the others are there.
        assert_eq!(scene.event("a", Event::Apply(object("a", "three"))), [""; 0]);
        assert_eq!(scene.event("a", Event::Delete(object("a", "one"))), [""; 0]);
        let unreadable = Delivery::Unreadable(Box::new(object("a", "two").metadata));
        assert_eq!(scene.take("a", Ok(unreadable)), [""; 0]);
        assert_eq!(scene.event("b", Event::Init), [""; 0]);
        let mut told = scene.event("b", Event::InitApply(object("b", "three")));
        told.extend(scene.event("b", Event::InitDone));
        assert_eq!(told.first().map(String::as_str), Some("init"));
        assert_eq!(told.last().map(String::as_str), Some("done"));
        assert_eq!(told.len(), 4);
        assert_eq!(scene.stored(), ["a/three", "b/three"]);
    }

    #[test]
    fn namespaces_list_that_begins_anew_before_the_first_state_counts_alone() {
        let mut scene = Scene::of(&["a", "b"]);
        scene.list("a", &["one"]);
        scene.event("a", Event::Init);
        scene.event("a", Event::InitApply(object("a", "two")));
        assert_eq!(scene.list("b", &[]), [""; 0], "the list of a is not complete");
        assert_eq!(
            scene.event("a", Event::InitDone),
            ["init", "object a/two", "done"]
        );
    }

    #[test]
    fn namespaces_later_list_of_one_is_told_as_changes() {
        let mut scene = Scene::settled(&["a", "b"]);
        assert_eq!(scene.stored(), ["a/web", "b/web"]);
        assert_eq!(scene.list("a", &["new"]), ["applied a/new", "deleted a/web"]);
        assert_eq!(scene.stored(), ["a/new", "b/web"]);
        // One that breaks off leaves nothing behind that the next would count.
        scene.event("b", Event::Init);
        scene.event("b", Event::InitApply(object("b", "web")));
        assert_eq!(scene.list("b", &[]), ["deleted b/web"]);
        assert_eq!(scene.stored(), ["a/new"]);
    }

    #[test]
    fn namespaces_changes_pass_as_they_are() {
        let mut scene = Scene::settled(&["a", "b"]);
        assert_eq!(
            scene.event("b", Event::Apply(object("b", "two"))),
            ["applied b/two"]
        );
        assert_eq!(
            scene.event("b", Event::Delete(object("b", "web"))),
            ["deleted b/web"]
        );
        let unreadable = Delivery::Unreadable(Box::new(object("a", "web").metadata));
        assert_eq!(scene.take("a", Ok(unreadable)), ["unreadable web"]);
        assert_eq!(scene.refuse("a", 500), ["error"]);
    }

    #[test]
    fn namespaces_one_that_may_not_be_read_holds_up_nobody() {
        let mut scene = Scene::of(&["a", "gone"]);
        scene.event("gone", Event::Init);
        scene.list("a", &["web"]);
        assert_eq!(scene.refuse("gone", 500), ["error"], "that may pass");
        assert_eq!(
            scene.refuse("gone", 403),
            ["error", "init", "object a/web", "done"]
        );
        // Every try begins like this; its objects come when it may be read.
        assert_eq!(scene.event("gone", Event::Init), [""; 0]);
        assert_eq!(scene.refuse("gone", 403), ["error"]);
        assert_eq!(scene.list("gone", &["late"]), ["applied gone/late"]);
        assert_eq!(scene.stored(), ["a/web", "gone/late"]);
    }

    #[tokio::test]
    async fn namespaces_streams_are_one_stream() {
        let writer = Writer::<Binding>::new(API);
        let watch = |namespace: &str| {
            let events = [
                Event::Init,
                Event::InitApply(object(namespace, "web")),
                Event::InitDone,
            ];
            let events = events.map(|event| Ok(Delivery::Event(event)));
            (namespace.to_owned(), stream::iter(events).boxed())
        };
        let merged = merged(vec![watch("a"), watch("b")], writer.as_reader());
        assert_eq!(merged.count().await, 4);
    }
}
