//! Connections in memory and in virtual time: what is waited for, and for how long.

mod client_certificates;
mod strangers;

use axum::{Extension, routing::get};
use futures::stream::pending;
use http::StatusCode;
use http_body_util::Empty;
use hyper::{
    body::Bytes,
    client::conn::{http1, http2},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use runtime::tasks::spawn_detached;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
    time::Instant,
};

use super::{super::seats::Seats, *};

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const AGE: Duration = Duration::from_secs(300);
/// What a stage may take longer than its limit: timers of HTTP have a grain.
const GRAIN: Duration = Duration::from_millis(50);

/// Admits as the gate does, and has an answer only much later.
async fn admitted(Extension(conduct): Extension<Arc<Conduct>>) {
    conduct.admitted(&Arc::from("weu-7"));
    sleep(Duration::from_secs(25)).await;
}

/// A server for one connection in memory.
struct Scene {
    terms: Arc<Terms>,
    seats: Seats,
    registry: Registry,
}

impl Scene {
    fn new() -> Self {
        let mut registry = Registry::default();
        let metrics = ConnectionMetrics::register(&mut registry);
        let router = Router::new()
            .route("/quick", get(async || "ok"))
            .route(
                "/refused",
                get(async || (StatusCode::UNAUTHORIZED, "who are you?")),
            )
            .route("/admitted", get(admitted))
            .route("/openapi.json", get(async || "{}"))
            .route(
                WATCH,
                get(async || Body::from_stream(pending::<io::Result<Bytes>>())),
            )
            .route("/slow", get(async || sleep(Duration::from_secs(25)).await));
        Self {
            terms: Arc::new(Terms {
                protocols: protocols(),
                router,
                metrics: metrics.clone(),
                shutdown: Shutdown::manual(),
            }),
            seats: Seats::new(1, metrics),
            registry,
        }
    }

    /// A connection whose handshake is over; the handle is done when the server has let go of it.
    async fn connect(&mut self) -> (DuplexStream, JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(256 * 1024);
        let terms = Arc::clone(&self.terms);
        let seat = self.seats.take().await.unwrap();
        let conduct = Arc::new(Conduct::new(seat, terms.metrics.clone()));
        let served = spawn_detached(async move { converse(theirs, None, conduct, AGE, &terms).await });
        (ours, served)
    }

    async fn http2(&mut self) -> (http2::SendRequest<Empty<Bytes>>, JoinHandle<()>) {
        let (stream, served) = self.connect().await;
        let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        spawn_detached(connection);
        (requests, served)
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    fn strangers_refused(&self, count: usize) -> bool {
        self.metrics()
            .contains(&format!("stranger_requests_refused_total {count}\n"))
    }

    fn closed(&self, reason: &str) -> bool {
        self.metrics()
            .contains(&format!("connections_closed_total{{reason=\"{reason}\"}} 1\n"))
    }
}

fn get_request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://broker.example{path}"))
        .body(Empty::new())
        .unwrap()
}

/// How long it takes from now until the server lets go.
async fn until_served(served: JoinHandle<()>) -> Duration {
    let from = Instant::now();
    served.await.unwrap();
    from.elapsed()
}

fn assert_about(took: Duration, expected: Duration) {
    assert!(
        took >= expected && took <= expected + GRAIN,
        "took {took:?}, expected {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn r3_connection_is_asked_to_go_at_its_age() {
    let mut scene = Scene::new();
    let (mut requests, served) = scene.http2().await;
    let answer = requests.send_request(get_request("/quick")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    drop(answer);
    assert_about(until_served(served).await, AGE);
    assert!(requests.ready().await.is_err(), "the client knows");
    assert!(scene.closed("old"));
}

#[tokio::test(start_paused = true)]
async fn r3_request_in_flight_at_the_age_is_answered() {
    let mut scene = Scene::new();
    let (mut requests, served) = scene.http2().await;
    requests.send_request(get_request("/quick")).await.unwrap();
    sleep(AGE.mul_f64(0.98)).await;
    let answer = requests.send_request(get_request("/slow")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    drop(answer);
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r1_drain_answers_what_is_in_flight_and_nothing_else() {
    let mut scene = Scene::new();
    let (mut requests, served) = scene.http2().await;
    let in_flight = spawn_detached(requests.send_request(get_request("/slow")));
    sleep(Duration::from_secs(1)).await;
    scene.terms.shutdown.start();
    assert_about(until_served(served).await, Duration::from_secs(24));
    assert_eq!(in_flight.await.unwrap().unwrap().status(), StatusCode::OK);
    assert!(scene.closed("drained"));
}

#[tokio::test(start_paused = true)]
async fn r1_drain_ends_idle_connections_at_once() {
    let mut scene = Scene::new();
    let (mut requests, served) = scene.http2().await;
    requests.send_request(get_request("/quick")).await.unwrap();
    scene.terms.shutdown.start();
    assert_about(until_served(served).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn r1_drain_does_not_wait_for_a_peer_that_is_gone_without_a_word() {
    let mut scene = Scene::new();
    let (stream, served) = scene.connect().await;
    let (mut requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let client = spawn_detached(connection);
    requests.send_request(get_request("/quick")).await.unwrap();
    // Its connection stays open, and nothing reads from it.
    let frozen = std::mem::ManuallyDrop::new(requests);
    client.abort();
    drop(client.await);
    scene.terms.shutdown.start();
    assert!(until_served(served).await <= DRAIN + GRAIN);
    drop(std::mem::ManuallyDrop::into_inner(frozen));
}

#[tokio::test(start_paused = true)]
async fn u8_connection_that_says_nothing_is_closed() {
    let mut scene = Scene::new();
    let (_stream, served) = scene.connect().await;
    let took = until_served(served).await;
    assert!(
        took >= REQUEST_HEAD_TIMEOUT && took <= REQUEST_HEAD_TIMEOUT + FAREWELL + GRAIN,
        "{took:?}"
    );
    assert!(scene.closed("silent"));
}

#[tokio::test(start_paused = true)]
async fn u8_http2_connection_that_asks_nothing_is_closed() {
    let mut scene = Scene::new();
    let (requests, served) = scene.http2().await;
    assert_about(until_served(served).await, REQUEST_HEAD_TIMEOUT);
    drop(requests);
    assert!(scene.closed("silent"));
}

#[tokio::test(start_paused = true)]
async fn u8_headers_that_drip_in_are_not_waited_for() {
    let mut scene = Scene::new();
    let (mut stream, served) = scene.connect().await;
    let dripping = spawn_detached(async move {
        stream.write_all(b"GET /quick HTTP/1.1\r\nhost: a\r\n").await?;
        for byte in b"x-slow: ".iter().chain(std::iter::repeat(&b'x')) {
            sleep(Duration::from_secs(1)).await;
            stream.write_all(&[*byte]).await?;
        }
        Ok::<(), io::Error>(())
    });
    let took = until_served(served).await;
    assert!(took <= REQUEST_HEAD_TIMEOUT + FAREWELL + GRAIN, "{took:?}");
    dripping.abort();
}

#[tokio::test(start_paused = true)]
async fn u8_headers_without_an_end_are_refused() {
    let mut scene = Scene::new();
    let (mut stream, served) = scene.connect().await;
    stream
        .write_all(b"GET /quick HTTP/1.1\r\nx-large: ")
        .await
        .unwrap();
    let flood = vec![b'x'; 4 * MAX_HTTP1_BUFFER_BYTES];
    // More than is buffered: the rest is never taken.
    drop(stream.write_all(&flood).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    assert!(
        answer.starts_with(b"HTTP/1.1 431 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_about(until_served(served).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn http1_connection_is_kept_for_another_request() {
    let mut scene = Scene::new();
    let (stream, served) = scene.connect().await;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    spawn_detached(connection);
    for _ in 0..3 {
        let answer = requests.send_request(get_request("/quick")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        drop(answer);
        requests.ready().await.unwrap();
        sleep(Duration::from_secs(5)).await;
    }
    // Then it is idle for as long as headers may take.
    assert_about(until_served(served).await, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn u8_only_a_caller_that_was_admitted_keeps_its_seat() {
    for (path, is_kept) in [
        ("/quick", false),
        ("/refused", false),
        ("/openapi.json", false),
        ("/none", false),
        // It is kept while the call is under way.
        ("/admitted", true),
    ] {
        let mut scene = Scene::new();
        let (mut requests, served) = scene.http2().await;
        let asked = spawn_detached(requests.send_request(get_request(path)));
        sleep(Duration::from_secs(1)).await;
        // The room has one seat. From a stranger a second connection would get it; it waits for the stranger to go.
        let second = timeout(Duration::from_secs(1), scene.seats.take()).await;
        assert_eq!(matches!(second, Ok(None)), is_kept, "{path}");
        asked.abort();
        served.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn u8_handshake_that_stops_halfway_is_given_up() {
    let mut scene = Scene::new();
    let (mut ours, theirs) = tokio::io::duplex(1024);
    let seat = scene.seats.take().await.unwrap();
    let served = spawn_detached(serve(theirs, certificate(), seat, AGE, Arc::clone(&scene.terms)));
    // The beginning of a ClientHello.
    ours.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
        .await
        .unwrap();
    assert_about(until_served(served).await, HANDSHAKE_TIMEOUT);
    assert!(
        scene
            .metrics()
            .contains("tls_handshake_failures_total{reason=\"timeout\"} 1\n")
    );
}

#[tokio::test(start_paused = true)]
async fn handshake_that_is_none_is_told_apart_from_a_probe() {
    for (bytes, reason) in [(&b"GET / HTTP/1.1\r\n\r\n"[..], "protocol"), (b"", "closed")] {
        let mut scene = Scene::new();
        let (mut ours, theirs) = tokio::io::duplex(1024);
        let seat = scene.seats.take().await.unwrap();
        let served = spawn_detached(serve(theirs, certificate(), seat, AGE, Arc::clone(&scene.terms)));
        ours.write_all(bytes).await.unwrap();
        ours.shutdown().await.unwrap();
        served.await.unwrap();
        let expected = format!("tls_handshake_failures_total{{reason=\"{reason}\"}} 1\n");
        assert!(
            scene.metrics().contains(&expected),
            "{reason}: {}",
            scene.metrics()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn u8_connection_that_is_displaced_goes_at_once() {
    let mut scene = Scene::new();
    let (_ours, theirs) = tokio::io::duplex(1024);
    let seat = scene.seats.take().await.unwrap();
    let served = spawn_detached(serve(theirs, certificate(), seat, AGE, Arc::clone(&scene.terms)));
    let newer = scene.seats.take().await;
    assert_about(until_served(served).await, Duration::ZERO);
    assert!(newer.is_some() && scene.closed("made_room"));
}

fn certificate() -> Arc<ServerConfig> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["broker.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(runtime::tls::crypto_provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    Arc::new(config)
}
