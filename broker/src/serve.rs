//! The main listener: one TLS port for gRPC and HTTP JSON, drained on shutdown.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::{Router, http::StatusCode, middleware};
use axum_server::{
    Handle,
    accept::NoDelayAcceptor,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use hyper_util::rt::TokioTimer;
use proto::v1::{
    credential_service_server::CredentialServiceServer, fleet_service_server::FleetServiceServer,
};
use tonic_health::pb::health_server::{Health, HealthServer};
use tower_http::timeout::TimeoutLayer;

use runtime::{Failure, Shutdown, error_chain::ErrorChain, file_watch, tls};

use crate::{gate, grpc, http, service::Service};

/// Time for requests in flight after a shutdown has started: a little more than the longest deadline.
pub const DRAIN: Duration = Duration::from_secs(32);
/// From the headers of a request to those of its answer, body included: the longest deadline and time to receive 64 KiB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);
/// Slow handshakes hold a connection for no longer than this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests of one connection in flight; a syncer needs a few hundred, an attacker wants more.
const MAX_STREAMS_PER_CONNECTION: u32 = 512;
/// Dead peers are noticed after this much silence, and this much patience.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers of a request: a token of 16 KiB and the rest.
const MAX_HEADER_BYTES: u32 = 32 * 1024;

/// Where the certificate is.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Everything that is served, behind the gate.
pub async fn router(service: Service) -> Router {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CredentialServiceServer<grpc::Grpc>>().await;
    health.set_serving::<FleetServiceServer<grpc::Grpc>>().await;
    // The deadline of a call starts when its message is there; this one also ends bodies that never come.
    routes(service, health_service).layer(TimeoutLayer::with_status_code(
        StatusCode::REQUEST_TIMEOUT,
        REQUEST_TIMEOUT,
    ))
}

/// gRPC, health and HTTP JSON in one router. Nothing is reached but through the gate.
fn routes(service: Service, health: HealthServer<impl Health>) -> Router {
    tonic::service::Routes::new(grpc::credential_server(service.clone()))
        .add_service(grpc::fleet_server(service.clone()))
        .add_service(health)
        .prepare()
        .into_axum_router()
        .merge(http::router(service.clone()))
        .layer(middleware::from_fn_with_state(service, gate::gate))
}

/// Loads the certificate.
///
/// # Errors
/// The files cannot be read, or do not fit.
pub fn load_tls(files: &TlsFiles) -> Result<RustlsConfig, Failure> {
    tls::load_server_config(&files.cert, &files.key)
        .map(|config| RustlsConfig::from_config(Arc::new(config)))
        .map_err(|error| {
            Failure::runtime("cannot serve TLS")
                .source(error)
                .remedy("--tls-cert-file and --tls-key-file must name a PEM certificate chain and its key")
        })
}

/// Serves until shutdown, then lets requests in flight finish.
///
/// # Errors
/// The listener cannot be registered with the runtime.
pub fn serve(
    listener: TcpListener,
    tls: RustlsConfig,
    router: Router,
    shutdown: Shutdown,
) -> Result<impl Future<Output = ()> + Send, Failure> {
    let handle = Handle::<SocketAddr>::new();
    let mut server = axum_server::from_tcp(listener)
        .map_err(|error| Failure::runtime("cannot use the listener").source(error))?
        // Without TCP_NODELAY a small gRPC answer waits 40 ms for the peer's delayed acknowledgement.
        .acceptor(
            RustlsAcceptor::new(tls)
                .handshake_timeout(HANDSHAKE_TIMEOUT)
                .acceptor(NoDelayAcceptor::new()),
        )
        .handle(handle.clone());
    let protocols = server.http_builder();
    // Without a timer hyper drops its own limit on slow headers, and panics where a keep-alive is asked for.
    protocols.http1().timer(TokioTimer::new());
    protocols
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .enable_connect_protocol();
    Ok(async move {
        let drain = async {
            shutdown.started().await;
            handle.graceful_shutdown(Some(DRAIN));
            std::future::pending::<()>().await;
        };
        let served = tokio::select! {
            served = server.serve(router.into_make_service()) => served,
            () = drain => Ok(()),
        };
        if let Err(error) = served {
            tracing::error!(%error, "the server failed");
        }
    })
}

/// Takes a renewed certificate into use; a bad one is refused and the old one stays.
pub async fn reload_tls(files: TlsFiles, tls: RustlsConfig, shutdown: Shutdown) {
    let watched = vec![files.cert.clone(), files.key.clone()];
    file_watch::on_change(watched, shutdown, move || match tls::load_server_config(&files.cert, &files.key) {
        Ok(config) => {
            tls.reload_from_config(Arc::new(config));
            tracing::info!("certificate reloaded");
        }
        Err(error) => tracing::error!(error = %ErrorChain(&error), "the new certificate cannot be used; the old one stays"),
    })
    .await;
}
