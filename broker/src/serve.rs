//! The main listener: one TLS port for gRPC and HTTP JSON, bounded in connections, drained on shutdown.
//!
//! A connection passes these files in this order: here (accepted) -> [`seats`] (one of so many) -> [`connection`] (TLS,
//! requests, end) -> [`conduct`] (what it may hold open) -> the router.

mod certificate;
mod conduct;
mod connection;
mod health;
mod request_panic;
mod seats;

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use axum::{Router, http::StatusCode, middleware};
use tokio::net::TcpStream;
use tonic_health::pb::health_server::{Health as HealthApi, HealthServer};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use runtime::{Failure, Shutdown, tasks::spawn_detached};

use crate::{gate, grpc, http, metrics::ConnectionMetrics, service::Service};
pub use certificate::{Certificate, TlsFiles};
pub(crate) use conduct::Conduct;
use connection::Terms;
pub use health::Health;
pub(crate) use request_panic::Panicked;
use seats::{Seat, Seats};

/// Time for requests in flight after a shutdown has started: a little more than the longest deadline.
pub const DRAIN: Duration = Duration::from_secs(32);
/// Files that are open besides connections: 256 connections to Azure at most, listeners, configuration, logs.
pub const OTHER_OPEN_FILES: u64 = 512;
/// From the headers of a request to those of its answer, body included: the longest deadline and time to receive 64 KiB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);
/// When no connection can be accepted, mostly because files have run out: trying again at once would be a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// The age of a connection is drawn from 1 ± this, so that what connected together does not come back together.
const AGE_JITTER: f64 = 0.1;

/// How many connections, and how long.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// At most this many at a time.
    pub max_connections: usize,
    /// After this long, give or take a tenth, a connection is asked to go: its caller finds the replicas anew.
    pub max_age: Duration,
}

/// Everything that is served, behind the gate.
pub async fn router(service: Service) -> (Router, Health) {
    let (health, health_service) = health::service().await;
    // The deadline of a call starts when its message is there; this one also ends bodies that never come.
    let router = routes(service, health_service).layer(TimeoutLayer::with_status_code(
        StatusCode::REQUEST_TIMEOUT,
        REQUEST_TIMEOUT,
    ));
    (router, health)
}

/// gRPC, health and HTTP JSON in one router. Nothing is reached but through the gate.
fn routes(service: Service, health: HealthServer<impl HealthApi>) -> Router {
    let grpc = tonic::service::Routes::new(grpc::credential_server(service.clone()))
        .add_service(grpc::fleet_server(service.clone()))
        .add_service(health)
        .prepare()
        .into_axum_router()
        .layer(CatchPanicLayer::custom(request_panic::grpc));
    let http = http::router(service.clone()).layer(CatchPanicLayer::custom(request_panic::http));
    grpc.merge(http)
        .layer(middleware::from_fn_with_state(service, gate::gate))
}

/// Serves until shutdown, then lets requests in flight finish.
///
/// # Errors
/// The listener cannot be registered with the runtime.
pub fn serve(
    listener: TcpListener,
    certificate: Certificate,
    router: Router,
    limits: ConnectionLimits,
    metrics: ConnectionMetrics,
    shutdown: Shutdown,
) -> Result<impl Future<Output = ()> + Send, Failure> {
    let listener = tokio::net::TcpListener::from_std(listener)
        .map_err(|error| Failure::runtime("cannot use the listener").source(error))?;
    let mut seats = Seats::new(limits.max_connections, metrics.clone());
    let terms = Arc::new(Terms {
        protocols: connection::protocols(),
        router,
        metrics,
        shutdown: shutdown.clone(),
    });
    Ok(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.started() => break,
            };
            match accepted {
                Ok((stream, address)) => {
                    if let Some(seat) = seats.take().await {
                        admit(stream, seat.of(address), &certificate, limits.max_age, &terms);
                    }
                }
                Err(error) => pause_after(&error, &shutdown).await,
            }
        }
        // From here on the port is closed: whoever comes now is told so at once and turns to another replica.
        drop(listener);
        seats.all_free().await;
    })
}

fn admit(stream: TcpStream, seat: Seat, certificate: &Certificate, max_age: Duration, terms: &Arc<Terms>) {
    // Without TCP_NODELAY a small gRPC answer waits 40 ms for the peer's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let age = drawn_age(max_age, rand::random());
    spawn_detached(connection::serve(
        stream,
        certificate.current(),
        seat,
        age,
        Arc::clone(terms),
    ));
}

/// `random` is from 0 to 1.
fn drawn_age(max_age: Duration, random: f64) -> Duration {
    max_age.mul_f64(1.0 - AGE_JITTER + 2.0 * AGE_JITTER * random)
}

async fn pause_after(error: &io::Error, shutdown: &Shutdown) {
    let is_of_the_peer = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if is_of_the_peer {
        return;
    }
    tracing::error!(%error, "cannot accept connections; trying again");
    tokio::select! {
        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
        () = shutdown.started() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r3_age_of_a_connection_is_within_a_tenth() {
        let max_age = Duration::from_secs(300);
        assert_eq!(drawn_age(max_age, 0.0), Duration::from_secs(270));
        assert_eq!(drawn_age(max_age, 0.5), max_age);
        assert_eq!(drawn_age(max_age, 1.0), Duration::from_secs(330));
    }
}
