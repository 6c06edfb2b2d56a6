//! Who is let go, how that is noticed, and what is asked of the API server for it.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use futures::stream;
use http::{Request, Response};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Client,
    client::Body,
    core::{DeserializeGuard, Status},
};
use prometheus_client::registry::Registry;
use runtime::clock::ManualClock;
use serde_json::json;

use super::*;
use crate::{
    binding::Bindings,
    crd::AcrPullBinding,
    finalizer::{PEERS, tests::seen},
    guard_rails::GuardRails,
    indexed,
    kube_calls::KubeCalls,
    links::LinkKeeper,
    memory::Memory,
    metrics::Metrics,
    samples::{context, manifest, now, workload_identity_spec},
};

#[test]
fn leaver_is_being_deleted_and_carries_the_peers_finalizer() {
    let of = |is_there, is_leaving: bool| {
        let mut metadata = seen("100", is_there).metadata;
        metadata.deletion_timestamp = is_leaving.then(|| Time(now()));
        Leaver::of(ApiVersion::V1Beta2, &metadata)
    };
    assert!(of(true, false).is_none());
    assert!(of(false, true).is_none());
    let leaver = of(true, true).unwrap();
    assert_eq!((leaver.namespace.as_str(), leaver.name.as_str()), ("shop", "web"));
    assert_eq!(leaver.uid(), "uid-of-web");
    assert_eq!(leaver.metadata.resource_version.as_deref(), Some("100"));
}

#[tokio::test]
async fn leavers_of_a_first_list_are_taken_while_it_is_read() {
    let mut metadata = seen("100", true).metadata;
    metadata.deletion_timestamp = Some(Time(now()));
    let (mut tx, mut rx) = mpsc::channel(1);
    let first_list = async {
        // Each changes once while it is waited for.
        for number in (0..100).chain(0..100) {
            metadata.uid = Some(number.to_string());
            let leaver = Leaver::of(ApiVersion::V1Beta2, &metadata).unwrap();
            tx.send(leaver).await.unwrap();
        }
    };
    let ((), taken) = gather(&mut rx, first_list).await;
    // The last one may still be on its way.
    let uids: HashSet<_> = taken.iter().map(Leaver::uid).collect();
    assert!((99..=100).contains(&taken.len()) && uids.len() == taken.len());
}

#[tokio::test]
async fn leaver_that_does_not_decode_is_noticed_in_a_list_and_in_a_change() {
    let object = |name: &str, environment: &str| {
        let mut object = serde_json::to_value(manifest(name, workload_identity_spec())).unwrap();
        object["metadata"]["finalizers"] = json!([PEERS]);
        object["metadata"]["deletionTimestamp"] = json!("2026-11-21T12:00:00Z");
        object["spec"]["acr"]["environment"] = json!(environment);
        serde_json::from_value::<DeserializeGuard<AcrPullBinding>>(object).unwrap()
    };
    let stays = manifest("stays", workload_identity_spec());
    let events = vec![
        Ok(Event::Init),
        Ok(Event::InitApply(object("listed", "MoonCloud"))),
        Ok(Event::InitDone),
        Ok(Event::Apply(object("changed", "MoonCloud"))),
        Ok(Event::Apply(object("decodes", "PublicCloud"))),
        Ok(Event::Apply(DeserializeGuard(Ok(stays)))),
        Ok(Event::Delete(object("gone", "PublicCloud"))),
    ];
    let (count, (tx, rx)) = (events.len(), mpsc::channel(8));
    let passed: Vec<_> = noticed(stream::iter(events), ApiVersion::V1Beta2, tx)
        .collect()
        .await;
    assert_eq!(passed.len(), count, "every event goes on");
    let names: Vec<_> = rx.map(|leaver| leaver.name).collect().await;
    assert_eq!(names, ["listed", "changed", "decodes"]);
}

/// The calls that letting go of `shop/web` makes, where Secrets are known like this.
async fn calls_of_letting_go(secrets: impl FnOnce(&Client) -> Secrets) -> Vec<String> {
    let calls: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&calls);
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path();
        log.lock().unwrap().push(format!("{} {path}", request.method()));
        let (code, answer) = if request.method() == http::Method::GET {
            (
                404,
                serde_json::to_value(Status::failure("", "NotFound").with_code(404)).unwrap(),
            )
        } else {
            let kind = "PartialObjectMetadata";
            let metadata = json!({"name": "web", "namespace": "shop", "resourceVersion": "101"});
            (
                200,
                json!({"apiVersion": "meta.k8s.io/v1", "kind": kind, "metadata": metadata}),
            )
        };
        let response = Response::builder()
            .status(code)
            .body(Body::from(answer.to_string().into_bytes()));
        async move { Ok::<_, Infallible>(response.unwrap()) }
    });
    let client = Client::new(service, "shop");
    let (accounts, _writer) = indexed::store(());
    let (bindings, _writers) = Bindings::empty();
    let memory = Arc::new(Memory::new(bindings.clone()));
    let links = LinkKeeper::new(accounts, bindings, Arc::clone(&memory));
    let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
    let context = context(client.clone(), &clock, secrets(&client), links, memory);
    let mut metadata = seen("100", true).metadata;
    metadata.deletion_timestamp = Some(Time(now()));
    let leaver = Leaver::of(ApiVersion::V1Beta2, &metadata).unwrap();
    let_go(&context, &leaver).await.unwrap();
    std::mem::take(&mut *calls.lock().unwrap())
}

#[tokio::test]
async fn leaver_of_a_syncer_that_may_not_read_secrets_goes_without_reading_one() {
    const REMOVAL: &str = "PATCH /apis/acrpull.microsoft.com/v1beta2/namespaces/shop/acrpullbindings/web";
    let watched = calls_of_letting_go(|_client| Secrets::Watched(kube::runtime::reflector::store().0)).await;
    assert_eq!(
        watched,
        ["GET /api/v1/namespaces/shop/secrets/acr-pull-web", REMOVAL]
    );
    let unread = calls_of_letting_go(|client| {
        let metrics = Metrics::register(&mut Registry::default());
        let calls = KubeCalls::new(metrics.clone());
        Secrets::Unread(Box::new(GuardRails::new(client.clone(), calls, metrics)))
    })
    .await;
    assert_eq!(unread, [REMOVAL]);
}
