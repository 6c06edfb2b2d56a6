use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::FutureExt as _;
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
                is_needed: Box::new(|_namespace| false),
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
                let key = |object: &Binding| format!("{}/{}", object.namespace().unwrap(), object.name_any());
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
    let is_needed = Box::new(|_namespace: &str| false);
    let merged = merged(vec![watch("a"), watch("b")], writer.as_reader(), is_needed);
    assert_eq!(merged.count().await, 4);
}

#[test]
fn namespaces_try_that_begins_anew_holds_up_nobody_and_loses_nothing() {
    let mut scene = Scene::of(&["a", "b"]);
    scene.list("a", &["web", "gone"]);
    assert_eq!(scene.event("a", Event::Init), [""; 0]);
    scene.refuse("a", 500);
    scene.event("a", Event::Init);
    assert_eq!(scene.list("b", &[]).len(), 4, "two objects between begin and end");
    assert_eq!(scene.stored(), ["a/gone", "a/web"]);
    assert_eq!(
        scene.event("a", Event::InitApply(object("a", "web"))),
        ["applied a/web"]
    );
    assert_eq!(scene.event("a", Event::InitDone), ["deleted a/gone"]);
}

#[tokio::test]
async fn b29_namespaces_kind_that_is_absent_in_one_is_waited_for_by_nobody() {
    let absent = || {
        let status = Status::failure("404 page not found", "").with_code(404);
        let error = kube::Error::Api(Box::new(status));
        Err(watcher::Error::InitialListFailed(error))
    };
    let tries = stream::iter([Ok(Event::Init), absent(), Ok(Event::Init), absent()]);
    let early = super::super::absent::as_empty(tries.chain(stream::pending()), API.as_str());
    let (late_tx, late) = futures::channel::mpsc::unbounded();
    let watches = vec![
        (
            "a".to_owned(),
            early.map(|event| event.map(Delivery::Event)).boxed(),
        ),
        ("b".to_owned(), late.boxed()),
    ];
    let writer = Writer::<Binding>::new(API);
    let mut merged = std::pin::pin!(merged(
        watches,
        writer.as_reader(),
        Box::new(|_namespace: &str| false)
    ));
    assert!(merged.next().now_or_never().is_none(), "b has not answered");
    for event in [Event::Init, Event::InitDone] {
        late_tx.unbounded_send(Ok(Delivery::Event(event))).unwrap();
    }
    for expected in [Event::Init, Event::InitDone] {
        let told = merged.next().now_or_never().flatten();
        let Some(Ok(Delivery::Event(event))) = told else {
            panic!("the first state is held up: {told:?}");
        };
        assert_eq!(
            std::mem::discriminant(&event),
            std::mem::discriminant(&expected),
            "{event:?}"
        );
    }
}

#[test]
fn namespaces_one_that_is_refused_for_long_is_let_go_and_comes_back() {
    let mut scene = Scene::settled(&["a", "b"]);
    // One answer in between, and it begins anew.
    for _refusal in 1..REFUSALS {
        assert_eq!(scene.refuse("a", 403), ["error"]);
    }
    assert_eq!(scene.list("a", &["web"]), ["applied a/web"]);
    for _refusal in 1..REFUSALS {
        assert_eq!(scene.event("a", Event::Init), [""; 0]);
        assert_eq!(scene.refuse("a", 403), ["error"]);
        assert_eq!(scene.refuse("a", 500), ["error"]);
    }
    assert_eq!(scene.stored(), ["a/web", "b/web"]);
    assert_eq!(scene.refuse("a", 403), ["error", "deleted a/web"]);
    assert_eq!(scene.refuse("a", 403), ["error"]);
    assert_eq!(scene.stored(), ["b/web"]);
    assert_eq!(scene.list("a", &["web"]), ["applied a/web"]);
}

#[test]
fn namespaces_what_others_need_stays_until_they_do_not() {
    let is_needed = Arc::new(AtomicBool::new(true));
    let mut scene = Scene::settled(&["a", "b"]);
    scene.merge.is_needed = Box::new({
        let is_needed = Arc::clone(&is_needed);
        move |namespace| namespace == "a" && is_needed.load(Ordering::Relaxed)
    });
    for _refusal in 0..2 * REFUSALS {
        assert_eq!(scene.refuse("a", 403), ["error"]);
    }
    is_needed.store(false, Ordering::Relaxed);
    assert_eq!(scene.refuse("a", 403), ["error", "deleted a/web"]);
}
