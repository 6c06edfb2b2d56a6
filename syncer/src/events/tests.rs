use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use http::{Request, Response};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::client::Body;
use prometheus_client::{encoding::text, registry::Registry};
use runtime::clock::ManualClock;
use tokio::sync::{Semaphore, mpsc::UnboundedReceiver};

use super::*;
use crate::status::Notice;

/// A server of events that takes as many as it is let.
struct Server {
    arrived: UnboundedReceiver<Event>,
    may_take: Arc<Semaphore>,
    open: Arc<AtomicUsize>,
}

fn server() -> (Client, Server) {
    let (arrived_tx, arrived) = mpsc::unbounded_channel();
    let (may_take, open) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    let server = Server {
        arrived,
        may_take: Arc::clone(&may_take),
        open: Arc::clone(&open),
    };
    let service = tower::service_fn(move |request: Request<Body>| {
        let (arrived, may_take, open) = (arrived_tx.clone(), Arc::clone(&may_take), Arc::clone(&open));
        async move {
            let body = request.into_body().collect_bytes().await.unwrap();
            open.fetch_add(1, Ordering::Relaxed);
            may_take.acquire().await.unwrap().forget();
            open.fetch_sub(1, Ordering::Relaxed);
            arrived.send(serde_json::from_slice(&body).unwrap()).unwrap();
            Ok::<_, Infallible>(Response::builder().status(201).body(Body::from(body)).unwrap())
        }
    });
    (Client::new(service, "default"), server)
}

struct Rig {
    announcer: Announcer,
    publisher: Publisher,
    server: Server,
    registry: Registry,
    clock: ManualClock,
}

fn rig() -> Rig {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_795_255_200));
    let (client, server) = server();
    let calls = KubeCalls::new(metrics.clone());
    let (announcer, publisher) = channel(client, calls, Arc::new(clock.clone()), metrics);
    Rig {
        announcer,
        publisher,
        server,
        registry,
        clock,
    }
}

impl Rig {
    fn dropped(&self, kind: &str) -> u64 {
        let mut metrics = String::new();
        text::encode(&mut metrics, &self.registry).unwrap();
        let name = format!("acrpull_syncer_events_dropped_total{{type=\"{kind}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

fn binding(number: usize) -> ObjectReference {
    ObjectReference {
        name: Some(format!("b{number}")),
        namespace: Some("shop".to_owned()),
        ..ObjectReference::default()
    }
}

fn good() -> Vec<Notice> {
    vec![Notice::adopted("acr-pull-web")]
}

fn bad() -> Vec<Notice> {
    vec![Notice::warning("PolicyDenied", "Issue", "no grant allows this")]
}

#[tokio::test]
async fn events_that_come_too_fast_are_dropped_and_counted_and_cost_no_warning() {
    let rig = rig();
    for number in 0..10_000 {
        rig.announcer.announce_on(&binding(number), good());
        rig.announcer.announce_on(&binding(number), bad());
    }
    assert_eq!(rig.publisher.others.len(), WAITING);
    assert_eq!(rig.dropped("normal"), 10_000 - WAITING as u64);
    assert_eq!(
        (rig.publisher.warnings.len(), rig.dropped("warning")),
        (10_000, 0)
    );
    rig.announcer.announce_on(&binding(0), bad());
    assert_eq!(rig.dropped("warning"), 1, "those are bounded too");
}

#[tokio::test]
async fn events_are_published_warnings_first_and_a_few_at_once() {
    let mut rig = rig();
    for number in 0..20 {
        rig.announcer.announce_on(&binding(number), good());
    }
    for number in 20..40 {
        rig.announcer.announce_on(&binding(number), bad());
    }
    let shutdown = Shutdown::manual();
    let publishing = runtime::tasks::spawn_detached(rig.publisher.run(shutdown.clone()));
    let mut kinds = Vec::new();
    for _event in 0..40 {
        rig.server.may_take.add_permits(1);
        let event = rig.server.arrived.recv().await.unwrap();
        assert!(rig.server.open.load(Ordering::Relaxed) <= AT_ONCE);
        kinds.push(event.type_.unwrap());
    }
    let (first, last) = kinds.split_at(20);
    assert!(first.iter().all(|kind| kind == "Warning"), "{first:?}");
    assert!(last.iter().all(|kind| kind == "Normal"), "{last:?}");
    shutdown.start();
    publishing.await.unwrap();
}

#[tokio::test]
async fn events_of_one_binding_are_read_in_the_order_in_which_they_happened() {
    let mut rig = rig();
    // At one and the same moment, and the clock is put right by a little in between.
    rig.announcer.announce_on(&binding(0), good());
    rig.announcer.announce_on(&binding(0), bad());
    rig.clock
        .set(UNIX_EPOCH + Duration::from_millis(1_795_255_199_100));
    rig.announcer.announce_on(&binding(0), good());
    rig.announcer.announce_on(&binding(0), bad());
    drop(rig.announcer);
    rig.server.may_take.add_permits(4);
    rig.publisher.run(Shutdown::manual()).await;
    let mut arrived = Vec::new();
    while let Ok(event) = rig.server.arrived.try_recv() {
        arrived.push((
            event.metadata.name.unwrap(),
            event.event_time.unwrap().0,
            event.type_.unwrap(),
        ));
    }
    let by_time = |read: &mut Vec<(String, _, String)>| read.sort_by_key(|event| event.1);
    let kinds = |read: &[(String, _, String)]| {
        let kinds = read.iter().map(|event| event.2.clone());
        kinds.collect::<Vec<_>>()
    };
    arrived.sort();
    assert_eq!(
        kinds(&arrived),
        ["Normal", "Warning", "Normal", "Warning"],
        "by name"
    );
    by_time(&mut arrived);
    assert_eq!(
        kinds(&arrived),
        ["Normal", "Warning", "Normal", "Warning"],
        "by time"
    );
    arrived.dedup_by_key(|event| event.0.clone());
    assert_eq!(arrived.len(), 4, "no two have the same name");
}

#[tokio::test]
async fn events_after_a_clock_that_was_ahead_have_the_time_that_is_right() {
    let mut rig = rig();
    rig.announcer.announce_on(&binding(0), bad());
    let right = Duration::from_secs(1_795_251_600);
    rig.clock.set(UNIX_EPOCH + right);
    rig.announcer.announce_on(&binding(0), bad());
    rig.announcer.announce_on(&binding(0), bad());
    drop(rig.announcer);
    rig.server.may_take.add_permits(3);
    rig.publisher.run(Shutdown::manual()).await;
    let mut times = Vec::new();
    while let Ok(event) = rig.server.arrived.try_recv() {
        times.push(event.event_time.unwrap().0.as_microsecond());
    }
    let right = i64::try_from(right.as_micros()).unwrap();
    assert_eq!(times.len(), 3);
    assert!(times.contains(&right), "{times:?}");
    let wrong = times.iter().filter(|at| **at > right + 1);
    assert_eq!(wrong.count(), 1, "the one of before: {times:?}");
}

#[tokio::test]
async fn event_that_is_on_its_way_at_shutdown_arrives_and_no_other_begins() {
    let mut rig = rig();
    for number in 0..20 {
        rig.announcer.announce_on(&binding(number), good());
    }
    let shutdown = Shutdown::manual();
    let publishing = runtime::tasks::spawn_detached(rig.publisher.run(shutdown.clone()));
    while rig.server.open.load(Ordering::Relaxed) < AT_ONCE {
        tokio::task::yield_now().await;
    }
    shutdown.start();
    tokio::task::yield_now().await;
    rig.server.may_take.add_permits(20);
    publishing.await.unwrap();
    let mut arrived = 0;
    while rig.server.arrived.try_recv().is_ok() {
        arrived += 1;
    }
    assert_eq!(arrived, AT_ONCE);
}
