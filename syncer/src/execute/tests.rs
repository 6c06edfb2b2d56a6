//! What refusals of a write mean, and what a Secret that is taken over is asked for.

use std::sync::Arc;

use kube::runtime::reflector;
use proto::Reason;
use runtime::clock::ManualClock;
use serde_json::Value;

use super::*;
use crate::{
    binding::Bindings,
    context::Secrets,
    indexed,
    links::LinkKeeper,
    memory::Memory,
    pull_secret::Credential,
    samples::{
        api_server::{Calls, api_server, refused, refused_for},
        binding_of, context, now,
    },
};

fn secret() -> PullSecret {
    PullSecret {
        uid: "uid-of-secret".to_owned(),
        resource_version: "7".to_owned(),
        adopted: false,
        credential: None,
        peers: None,
        answered_request: None,
    }
}

fn answer(binding: &Binding, payload: Option<&str>) -> Answer {
    Answer {
        credential: Credential {
            inputs: crate::wanted::read(binding, None).unwrap().inputs,
            fingerprint: proto::Fingerprint::of(b"payload"),
            refreshed_at: now(),
            expires_at: now(),
            refresh_at: now(),
        },
        payload: payload.map(|payload| payload.as_bytes().to_vec()),
        degraded: false,
        granted_scope: String::new(),
    }
}

/// A process whose every write meets this.
fn refusing(answer: (u16, Value)) -> (Context, Calls) {
    let (client, calls) = api_server(move |_call| answer.clone());
    let bindings = Bindings::empty().0;
    let memory = Arc::new(Memory::new(bindings.clone()));
    let links = LinkKeeper::new(indexed::store(()).0, bindings, Arc::clone(&memory));
    let secrets = Secrets::Watched(reflector::store().0);
    let clock = ManualClock::at(now().into());
    (context(client, &clock, secrets, links, memory), calls)
}

/// Whether each kind of write counts as a race that somebody else won, or else the reason.
async fn met(answer_of_server: (u16, Value)) -> [Option<Reason>; 3] {
    let binding = binding_of(ApiVersion::V1Beta2, "web");
    let (context, _calls) = refusing(answer_of_server);
    let (times, whole) = (answer(&binding, None), answer(&binding, Some("{}")));
    let secret = secret();
    let of = |written: Result<PullSecret, StoreError>| match written.unwrap_err() {
        StoreError::Outpaced(_) => None,
        StoreError::Refused(problem) => Some(problem.reason),
    };
    [
        of(adopt(&context, &binding, &secret).await),
        of(store(&context, &binding, Some(&secret), &times, None).await),
        of(store(&context, &binding, Some(&secret), &whole, None).await),
    ]
}

#[tokio::test]
async fn write_of_a_secret_that_somebody_deleted_or_made_anew_meanwhile_is_a_race() {
    assert_eq!(met(refused(409, "the object has been modified")).await, [None; 3]);
    let other_uid = [("metadata.uid", "Invalid value: \"one\": field is immutable")];
    assert_eq!(met(refused_for(422, "is invalid", &other_uid)).await, [None; 3]);
    // An apply would make it anew, so there is no namespace for it.
    let gone = Some(Reason::KubernetesUnreachable);
    assert_eq!(met(refused(404, "not found")).await, [None, None, gone]);
    let denied = Some(Reason::KubernetesDenied);
    assert_eq!(met(refused(403, "cannot patch")).await, [denied; 3]);
}

#[tokio::test]
async fn secret_of_another_type_is_not_taken_over() {
    let other_type = [(
        "type",
        "Invalid value: \"kubernetes.io/dockerconfigjson\": field is immutable",
    )];
    let (context, calls) = refusing(refused_for(422, "is invalid", &other_type));
    let binding = binding_of(ApiVersion::V1Beta2, "web");
    let refusal = adopt(&context, &binding, &secret()).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Refused(problem) if problem.reason == Reason::SecretConflict));
    let calls = calls.lock().unwrap();
    let [adoption] = calls.as_slice() else {
        panic!("{calls:?}");
    };
    assert_eq!(adoption.body["type"], "kubernetes.io/dockerconfigjson");
    assert_eq!(adoption.body["metadata"]["uid"], "uid-of-secret");
}
