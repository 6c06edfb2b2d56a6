//! What a pass makes of a Secret that may not be read and is not as it was known.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use k8s_openapi::jiff::ToSpan as _;
use kube::runtime::watcher::Event;
use prometheus_client::registry::Registry;
use proto::Fingerprint;
use runtime::clock::ManualClock;
use serde_json::{Value, json};

use super::*;
use crate::{
    binding::{ApiVersion, Binding, Bindings},
    context::Context,
    credential::Answer,
    guard_rails::GuardRails,
    indexed,
    kube_calls::KubeCalls,
    links::LinkKeeper,
    memory::{BindingMemory, Memory},
    metrics::Metrics,
    pull_secret::{Credential, judge},
    reconcile::release::Release,
    samples::{
        api_server::{Call, Calls, api_server, refused},
        binding_of, context, now, owner,
    },
    unread_secret::Known,
};

const SECRET: &str = "PATCH /api/v1/namespaces/shop/secrets/acr-pull-web";

/// The metadata of the binding's Secret, in this version.
fn seen(binding: &Binding, version: &str) -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": {
            "name": "acr-pull-web",
            "namespace": "shop",
            "uid": "uid-of-secret",
            "resourceVersion": version,
            "labels": {"acr.microsoft.com/binding": "web"},
            "ownerReferences": [owner(binding)],
        },
    })
}

/// A process that may not read Secrets.
fn process(
    binding: &Binding,
    answer: impl Fn(&Call) -> (u16, Value) + Send + Sync + 'static,
) -> (Context, Calls) {
    let (client, calls) = api_server(answer);
    let (store, mut bindings) = Bindings::empty();
    bindings
        .v1beta2
        .apply_watcher_event(&Event::Apply(binding.clone()));
    let memory = Arc::new(Memory::new(store.clone()));
    let links = LinkKeeper::new(indexed::store(()).0, store, Arc::clone(&memory));
    let metrics = Metrics::register(&mut Registry::default());
    let guard_rails = GuardRails::new(client.clone(), KubeCalls::new(metrics.clone()), metrics);
    let secrets = Secrets::Unread(Box::new(guard_rails));
    let clock = ManualClock::at(now().into());
    (context(client, &clock, secrets, links, memory), calls)
}

/// A pass of a binding whose Secret was written by this process, and is due to be written again.
fn pass<'a>(context: &'a Context, binding: &Binding) -> Pass<'a> {
    let written = serde_json::from_value(seen(binding, "7")["metadata"].clone()).unwrap();
    let SecretState::Ours(written) = judge(&written, binding) else {
        panic!("it is ours");
    };
    let secret = SecretState::Ours(PullSecret {
        credential: Some(credential(binding, "payload")),
        ..written
    });
    let mut memory = BindingMemory::new("uid-of-web", now());
    memory.unread.saw(&secret);
    Pass {
        context,
        snapshot: Snapshot {
            binding: Arc::new(binding.clone()),
            targets: Vec::new(),
            identity_account: None,
            secret,
            secret_fight: None,
            memory,
            allowed_servers: crate::allowed_servers::AllowedServers::default(),
            reapply_at: Some(now()),
        },
        link_problem: None,
        secret_problem: None,
        release: Release::default(),
        is_outpaced: false,
    }
}

fn credential(binding: &Binding, payload: &str) -> Credential {
    Credential {
        inputs: crate::wanted::read(binding, None).unwrap().inputs,
        fingerprint: Fingerprint::of(payload.as_bytes()),
        refreshed_at: now(),
        expires_at: now() + 60.minutes(),
        refresh_at: now() + 30.minutes(),
    }
}

fn issue(pass: &Pass<'_>) -> Issue {
    match plan::plan(&pass.snapshot, now()).steps.pop() {
        Some(Step::Issue(issue)) => *issue,
        other => panic!("the last step is {other:?}"),
    }
}

fn answer(credential: Credential) -> Answer {
    Answer {
        credential,
        payload: Some(b"{}".to_vec()),
        degraded: false,
        granted_scope: String::new(),
    }
}

#[tokio::test]
async fn unread_secret_that_is_gone_is_asked_for_again_whatever_was_known_of_it() {
    let binding = binding_of(ApiVersion::V1Beta2, "web");
    let (context, calls) = process(&binding, |_call| {
        refused(409, "the UID in the precondition is another")
    });
    let mut pass = pass(&context, &binding);
    let first = issue(&pass);
    pass.settle(&first, Ok(answer(credential(&binding, "payload"))))
        .await;
    assert!(pass.is_outpaced);
    assert_eq!(calls.lock().unwrap()[0].body["metadata"]["resourceVersion"], "7");

    // The next pass; and the broker fails.
    assert_eq!(pass.snapshot.secret, SecretState::Absent);
    let unreachable = Problem::new(proto::Reason::BrokerUnreachable, "no");
    let second = issue(&pass);
    pass.settle(&second, Err(unreachable.clone())).await;
    let rest = plan::plan(&pass.snapshot, now());
    assert_eq!(
        rest.problem,
        Some(unreachable),
        "nobody knows of a token that works"
    );
    let run = pass.snapshot.memory.failures.as_ref().unwrap();
    assert_eq!(rest.wake_at, Some(run.next_at));
    assert!(run.next_at <= now() + 1.minute(), "it is not put off");
}

#[tokio::test]
async fn unread_secret_that_is_gone_is_written_also_with_a_token_that_ends_before_the_lost_one() {
    let binding = binding_of(ApiVersion::V1Beta2, "web");
    let is_gone = Arc::new(AtomicBool::new(true));
    let (gone, secret) = (Arc::clone(&is_gone), seen(&binding, "8"));
    let (context, calls) = process(&binding, move |_call| {
        if gone.load(Ordering::Relaxed) {
            refused(409, "the UID in the precondition is another")
        } else {
            (200, secret.clone())
        }
    });
    let mut pass = pass(&context, &binding);
    let first = issue(&pass);
    pass.settle(&first, Ok(answer(credential(&binding, "payload"))))
        .await;
    is_gone.store(false, Ordering::Relaxed);

    let of_another_broker = Credential {
        expires_at: now() + 50.minutes(),
        ..credential(&binding, "other")
    };
    let second = issue(&pass);
    pass.settle(&second, Ok(answer(of_another_broker))).await;
    let calls = calls.lock().unwrap();
    let writes: Vec<_> = calls.iter().map(|call| call.what.as_str()).collect();
    assert_eq!(writes, [SECRET, SECRET]);
    assert_eq!(
        calls[1].body["metadata"]["uid"],
        Value::Null,
        "it may be there or not"
    );
    assert!(
        matches!(&pass.snapshot.memory.unread.known, Known::Seen(secret) if secret.resource_version == "8")
    );
}

#[tokio::test]
async fn unread_secret_that_another_process_wrote_is_looked_at_before_the_first_write() {
    let binding = binding_of(ApiVersion::V1Beta2, "web");
    let secret = seen(&binding, "9");
    let (context, calls) = process(&binding, move |_call| (200, secret.clone()));
    let mut pass = pass(&context, &binding);
    let due = plan::plan(&pass.snapshot, now());
    assert!(!pass.look(&due).await, "this process knows how it left it");

    // As after a start.
    pass.snapshot.memory.unread.known = Known::Told;
    let resting = plan::plan(
        &Snapshot {
            reapply_at: Some(now() + 5.minutes()),
            ..pass.snapshot.clone()
        },
        now(),
    );
    assert!(!pass.look(&resting).await, "nothing is to be written");
    assert!(calls.lock().unwrap().is_empty());
    assert!(pass.look(&due).await);
    assert!(!pass.look(&due).await, "once is enough");

    let issue = issue(&pass);
    pass.settle(&issue, Ok(answer(credential(&binding, "payload"))))
        .await;
    let calls = calls.lock().unwrap();
    let [look, write] = calls.as_slice() else {
        panic!("{calls:?}");
    };
    assert_eq!((look.what.as_str(), &look.body), (SECRET, &json!({})));
    assert!(look.query.contains("dryRun=All"), "{}", look.query);
    assert_eq!(write.body["metadata"]["uid"], "uid-of-secret");
    assert_eq!(write.body["metadata"]["resourceVersion"], "9");
}

#[tokio::test]
async fn b6_unread_secret_is_known_to_be_foreign_or_absent_before_the_broker_is_asked() {
    let binding = binding_of(ApiVersion::V1Beta2, "web");
    let mut foreign = seen(&binding, "9");
    foreign["metadata"]["ownerReferences"] = Value::Null;
    foreign["metadata"]["labels"] = Value::Null;
    for (answer, secret, known) in [
        ((200, foreign), SecretState::Foreign, Known::Unknown),
        (refused(404, "not found"), SecretState::Absent, Known::Absent),
    ] {
        let (context, _calls) = process(&binding, move |_call| answer.clone());
        let mut pass = pass(&context, &binding);
        pass.snapshot.memory.unread.known = Known::Told;
        let due = plan::plan(&pass.snapshot, now());
        assert!(pass.look(&due).await);
        assert_eq!(pass.snapshot.secret, secret);
        assert_eq!(pass.snapshot.memory.unread.known, known);
        let asks = !plan::plan(&pass.snapshot, now()).steps.is_empty();
        assert_eq!(asks, secret == SecretState::Absent);
    }
}

#[tokio::test]
async fn unread_secret_that_may_not_even_be_looked_at_is_written_as_it_is_known() {
    let binding = binding_of(ApiVersion::V1Beta2, "web");
    let (context, _calls) = process(&binding, |_call| {
        refused(
            403,
            "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
        )
    });
    let mut pass = pass(&context, &binding);
    pass.snapshot.memory.unread.known = Known::Told;
    let (before, due) = (pass.snapshot.secret.clone(), plan::plan(&pass.snapshot, now()));
    assert!(!pass.look(&due).await);
    assert_eq!(pass.snapshot.secret, before);
    assert_eq!(pass.snapshot.memory.unread.known, Known::Told);
}

#[tokio::test]
async fn pass_that_somebody_was_faster_than_is_counted_as_outpaced() {
    let binding = binding_of(ApiVersion::V1Beta2, "web");
    let (mut context, _calls) = process(&binding, |_call| refused(409, "the object has been modified"));
    let mut registry = Registry::default();
    context.metrics = Metrics::register(&mut registry);
    let mut pass = pass(&context, &binding);
    let issue = issue(&pass);
    pass.settle(&issue, Ok(answer(credential(&binding, "payload"))))
        .await;
    assert!(pass.is_outpaced);
    pass.give_way();
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &registry).unwrap();
    let line = "acrpull_syncer_reconcile_total{result=\"outpaced\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

mod adoptions;
