//! Passes that wait for a broker that never answers, and what becomes of their binding meanwhile.

use std::{sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    ResourceExt as _,
    runtime::{reflector, watcher::Event},
};
use prometheus_client::registry::Registry;
use runtime::{clock::ManualClock, tasks};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    binding::{ApiVersion, Binding, Bindings, PerApi},
    context::{Context, Secrets},
    indexed::{self, IndexedWriter},
    links::LinkKeeper,
    memory::Memory,
    metrics::Metrics,
    pull_secret::REFRESH_REQUESTED,
    reconcile::reconcile,
    samples::{
        annotated_account,
        api_server::{Calls, api_server, refused},
        binding, binding_of, context, now, workload_identity_spec,
    },
};

/// Longer than the question stays open whatever happens, and shorter than it takes to be worth a word.
const A_WHILE: Duration = Duration::from_secs(2);

/// A process, and a pass of one binding that has asked.
struct Asking {
    context: Arc<Context>,
    bindings: PerApi<IndexedWriter<Binding>>,
    binding: Binding,
    pass: JoinHandle<Option<Duration>>,
    calls: Calls,
}

/// A process that knows this binding and the ServiceAccount that names its identity. Nothing else is there.
fn process(binding: &Binding) -> (Arc<Context>, PerApi<IndexedWriter<Binding>>, Calls) {
    let (client, calls) = api_server(|_call| refused(404, "there is none"));
    let (store, mut bindings) = Bindings::empty();
    let event = Event::Apply(binding.clone());
    bindings.of_mut(binding.api).apply_watcher_event(&event);
    let memory = Arc::new(Memory::new(store.clone()));
    let (accounts, mut writer) = indexed::store(());
    writer.apply_watcher_event(&Event::Apply(annotated_account("puller")));
    let links = LinkKeeper::new(accounts, store, Arc::clone(&memory));
    let clock = ManualClock::at(now().into());
    let secrets = Secrets::Watched(reflector::store().0);
    let context = context(client, &clock, secrets, links, memory);
    (Arc::new(context), bindings, calls)
}

/// What was asked for besides a look at the Secret.
fn written(calls: &Calls) -> Vec<String> {
    let calls = calls.lock().unwrap();
    let made = calls.iter().map(|call| call.what.clone());
    made.filter(|call| !call.starts_with("GET ")).collect()
}

impl Asking {
    async fn of(api: ApiVersion) -> Self {
        let binding = binding_of(api, "web");
        let (context, bindings, calls) = process(&binding);
        let pass = tasks::spawn_detached(reconcile(Arc::clone(&context), Arc::new(binding.clone())));
        tokio::time::sleep(A_WHILE).await;
        assert!(!pass.is_finished(), "nobody answers");
        Self {
            context,
            bindings,
            binding,
            pass,
            calls,
        }
    }

    /// What the watch shows, and the router says.
    fn happens(&mut self, event: &Event<Binding>) {
        let api = self.binding.api;
        self.bindings.of_mut(api).apply_watcher_event(event);
        self.context.news.tell(&self.binding.key());
    }

    fn changes(&mut self, change: impl FnOnce(&mut Binding)) {
        let mut changed = self.binding.clone();
        change(&mut changed);
        self.happens(&Event::Apply(changed));
    }

    /// What the pass ended with, if it was given up.
    async fn given_up(self) -> Option<Option<Duration>> {
        let ended = tokio::time::timeout(A_WHILE, self.pass).await;
        assert_eq!(written(&self.calls), [""; 0]);
        ended.ok().map(Result::unwrap)
    }
}

#[tokio::test(start_paused = true)]
async fn question_for_a_binding_that_changes_is_given_up_and_nothing_is_written() {
    type Change = fn(&mut Binding);
    let changes: [Change; 4] = [
        |binding| binding.spec.acr.server = "other.azurecr.io".to_owned(),
        |binding| binding.metadata.uid = Some("of-the-next".to_owned()),
        |binding| binding.metadata.deletion_timestamp = Some(Time(now())),
        |binding| {
            let request = "now".to_owned();
            binding
                .annotations_mut()
                .insert(REFRESH_REQUESTED.to_owned(), request);
        },
    ];
    for api in ApiVersion::ALL {
        for (number, change) in changes.into_iter().enumerate() {
            let mut asking = Asking::of(api).await;
            asking.changes(change);
            // The change has woken the pass that comes next.
            assert_eq!(asking.given_up().await, Some(None), "{api:?} {number}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn question_for_a_binding_that_is_gone_is_given_up() {
    let mut asking = Asking::of(ApiVersion::V1Beta2).await;
    let gone = asking.binding.clone();
    asking.happens(&Event::Delete(gone));
    assert_eq!(asking.given_up().await, Some(None));
}

#[tokio::test(start_paused = true)]
async fn question_stays_open_through_changes_that_mean_nothing_to_it() {
    let mut asking = Asking::of(ApiVersion::V1Beta2).await;
    for version in 101..110 {
        asking.changes(|binding| {
            binding.metadata.resource_version = Some(version.to_string());
            binding.metadata.generation = Some(4);
        });
    }
    assert_eq!(asking.given_up().await, None);
}

#[tokio::test(start_paused = true)]
async fn question_that_is_given_up_is_no_failure_and_leaves_what_was_known() {
    let mut asking = Asking::of(ApiVersion::V1Beta2).await;
    let (context, key) = (Arc::clone(&asking.context), asking.binding.key());
    asking.changes(|binding| binding.spec.acr.server = "other.azurecr.io".to_owned());
    asking.given_up().await.unwrap();
    let known = context.memory.of(&key, "uid-of-web", now());
    assert_eq!(known.failures, None);
    assert_eq!(known.first_seen, now());
}

#[tokio::test(start_paused = true)]
async fn answer_for_a_binding_that_is_another_one_by_then_is_not_taken() {
    const TOKEN: &str = "POST /api/v1/namespaces/shop/serviceaccounts/puller/token";
    let read = binding("web", workload_identity_spec());
    for (is_changed, is_failure) in [(false, true), (true, false)] {
        let (context, mut bindings, calls) = process(&read);
        let mut present = read.clone();
        if is_changed {
            present.spec.acr.scope = "repository:team/other:pull".to_owned();
        }
        bindings.v1beta2.apply_watcher_event(&Event::Apply(present));
        // At once: there is no token for the question.
        let next = reconcile(Arc::clone(&context), Arc::new(read.clone())).await;
        let known = context.memory.of(&read.key(), "uid-of-web", now());
        assert_eq!(known.failures.is_some(), is_failure);
        assert_eq!(next.is_none(), is_changed);
        let status = "PATCH /apis/acrpull.microsoft.com/v1beta2/namespaces/shop/acrpullbindings/web/status";
        let expected = if is_changed {
            vec![TOKEN]
        } else {
            vec![TOKEN, status]
        };
        assert_eq!(written(&calls), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn question_that_is_answered_fast_is_given_up_no_sooner_than_one_that_is_not() {
    let read = binding("web", workload_identity_spec());
    let (context, mut bindings, _calls) = process(&read);
    let mut present = read.clone();
    present.spec.acr.scope = "repository:team/other:pull".to_owned();
    bindings.v1beta2.apply_watcher_event(&Event::Apply(present));
    let begun = Instant::now();
    assert_eq!(reconcile(context, Arc::new(read)).await, None);
    assert_eq!(begun.elapsed(), super::LEAST);
}

/// A binding that has changed by the time its question is answered, as often as it takes for that not to matter. The API
/// server refuses the token for the question, so each is answered at once.
async fn changing() -> (Arc<Context>, PerApi<IndexedWriter<Binding>>, Calls, Registry) {
    let read = binding("web", workload_identity_spec());
    let (context, mut bindings, calls) = process(&read);
    let mut registry = Registry::default();
    let mut context = Arc::into_inner(context).unwrap();
    context.metrics = Metrics::register(&mut registry);
    let context = Arc::new(context);
    let mut present = read.clone();
    present.spec.acr.scope = "repository:team/other:pull".to_owned();
    bindings.v1beta2.apply_watcher_event(&Event::Apply(present));
    for _change in 0..super::MAX_OUTDATED {
        let next = reconcile(Arc::clone(&context), Arc::new(read.clone())).await;
        assert_eq!(next, None);
    }
    (context, bindings, calls, registry)
}

#[tokio::test(start_paused = true)]
async fn question_for_a_binding_that_keeps_changing_is_answered_and_told_of_after_a_few() {
    let (context, _bindings, calls, registry) = changing().await;
    let read = binding("web", workload_identity_spec());
    let known = || context.memory.of(&read.key(), "uid-of-web", now());
    assert_eq!((known().failures, known().outdated), (None, 3));

    let next = reconcile(Arc::clone(&context), Arc::new(read.clone())).await;
    assert!(next.is_some(), "it is tried again by the schedule of failures");
    assert!(known().failures.is_some());
    assert_eq!(known().outdated, 0, "the next few may be given up again");
    let last = written(&calls).pop().unwrap();
    assert!(last.ends_with("/acrpullbindings/web/status"), "{last}");

    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &registry).unwrap();
    for line in [
        "acrpull_syncer_reconcile_total{result=\"outdated\"} 3",
        "acrpull_syncer_reconcile_total{result=\"problem\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn question_for_a_binding_that_is_gone_or_another_is_given_up_however_many_were_before() {
    let read = binding("web", workload_identity_spec());
    let gone = Event::Delete(read.clone());
    let mut next = read.clone();
    next.metadata.uid = Some("of-the-next".to_owned());
    let mut ending = read.clone();
    ending.metadata.deletion_timestamp = Some(Time(now()));
    for event in [gone, Event::Apply(next), Event::Apply(ending)] {
        let (context, mut bindings, calls, _registry) = changing().await;
        bindings.v1beta2.apply_watcher_event(&event);
        assert_eq!(reconcile(context, Arc::new(read.clone())).await, None);
        let token = |call: &String| call.ends_with("/serviceaccounts/puller/token");
        assert!(written(&calls).iter().all(token), "nothing is said");
    }
}
