//! Passes that wait for a broker that never answers, and what becomes of their binding meanwhile.

use std::{sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    ResourceExt as _,
    runtime::{reflector, watcher::Event},
};
use runtime::{clock::ManualClock, tasks};
use tokio::task::JoinHandle;

use crate::{
    binding::{ApiVersion, Binding, Bindings, PerApi},
    context::{Context, Secrets},
    indexed::{self, IndexedWriter},
    links::LinkKeeper,
    memory::Memory,
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
