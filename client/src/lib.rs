//! The Rust client of the broker.
//!
//! A call goes to the less busy of two replicas drawn at random. A replica that is lost costs the call one more try on
//! another; one that is silent for 2 s gets company from another, and the first answer counts. Whatever happens, a call
//! makes at most two attempts and ends within 20 s. Read in the order of a call: `methods`; `attempts` (what is asked when), with
//! `verdict` (what an answer means) and `budget` (how much may be asked twice); `replicas` (who can be asked), with
//! `resolve` (where they are) and `connection` (how they are reached), `trust` (whether it is them, and who is asking).
//!
//! The tokens that pass through are the callers' and the broker's: nothing here logs or keeps a message.

mod attempts;
mod budget;
mod connection;
mod error;
mod methods;
mod metrics;
mod replicas;
mod resolve;
mod token_file;
mod trust;
mod verdict;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Uri;
use runtime::telemetry::propagation;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

pub use error::{BrokerError, ClientError};
pub use metrics::ClientMetrics;
pub use resolve::{Resolve, SystemResolver};

use attempts::Attempts;
use budget::Budget;
use connection::{Connector, Wire};
use replicas::{Lease, Replicas};
use token_file::TokenFile;
use trust::{Trust, TrustFiles};

/// The longest wait for an answer, all attempts together; the broker itself gives up after 30 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Of an https address that names none.
const DEFAULT_PORT: u16 = 443;

/// How to reach the broker and as whom.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `https://host:port`. Every address of the host is a replica; certificates must name the host.
    pub address: String,
    /// Roots that the broker's certificate must chain to, read again for each connection; the system's roots when absent.
    pub ca_file: Option<PathBuf>,
    /// What this process proves itself with in the handshake, where the broker asks for it.
    pub client_certificate: Option<ClientCertificate>,
    /// File with the caller's ServiceAccount token, issued for the broker's audience; read again as it is renewed.
    pub token_file: PathBuf,
}

/// A client certificate, read again for each connection.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// Certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
}

/// The broker, all replicas of it. Cheap to clone; clones share connections, budget and metrics, and the last one to go
/// closes the connections.
#[derive(Debug, Clone)]
pub struct BrokerClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    replicas: Replicas,
    token: TokenFile,
    budget: Mutex<Budget>,
    metrics: ClientMetrics,
}

impl BrokerClient {
    /// Prepares the client and starts to connect; no call is made. Must run inside an async runtime.
    ///
    /// # Errors
    /// The address is no https address, or the CA file or the client certificate cannot be used.
    pub fn new(options: &ClientOptions) -> Result<Self, ClientError> {
        Self::with_resolver(options, Arc::new(SystemResolver))
    }

    /// The same, where addresses come from somewhere else than the system's resolver.
    ///
    /// # Errors
    /// Those of [`BrokerClient::new`].
    pub fn with_resolver(options: &ClientOptions, resolver: Arc<dyn Resolve>) -> Result<Self, ClientError> {
        let uri: Uri = options.address.parse().map_err(|source| ClientError::Address {
            address: options.address.clone(),
            source,
        })?;
        // A token must not travel in the clear, so there is no way to say http.
        let host = match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(host)) => host.trim_matches(['[', ']']).to_owned(),
            _ => {
                return Err(ClientError::NotHttps {
                    address: options.address.clone(),
                });
            }
        };
        let port = uri.port_u16().unwrap_or(DEFAULT_PORT);
        let files = TrustFiles {
            ca: options.ca_file.clone(),
            own: options.client_certificate.clone(),
        };
        let metrics = ClientMetrics::new(files.own.is_some());
        let trust = Trust::load(&host, files, metrics.clone())?;
        let connector = Connector::new(trust, uri);
        Ok(Self {
            shared: Arc::new(Shared {
                replicas: Replicas::follow(host, port, resolver, connector, metrics.clone()),
                token: TokenFile::new(options.token_file.clone()),
                budget: Mutex::default(),
                metrics,
            }),
        })
    }

    /// What is counted, to be registered by whoever has a registry.
    pub fn metrics(&self) -> &ClientMetrics {
        &self.shared.metrics
    }

    /// The path of every unary method: one span, one deadline, attempts as [`attempts`] decides. `send` makes one
    /// attempt; it may run twice, so the method must be idempotent.
    async fn call<M, R, S, F>(&self, method: &'static str, message: M, send: S) -> Result<R, BrokerError>
    where
        M: Clone + Send + Sync,
        R: Send,
        S: Fn(Wire, Request<M>) -> F + Sync,
        F: Future<Output = Result<Response<R>, Status>> + Send,
    {
        let span = tracing::info_span!(
            "broker call",
            otel.name = method,
            otel.kind = "client",
            rpc.system.name = "grpc",
            rpc.response.status_code = tracing::field::Empty,
        );
        async {
            let result = self.attempt(message, send).await;
            let code = result.as_ref().map_or_else(Status::code, |_response| Code::Ok);
            tracing::Span::current().record("rpc.response.status_code", i32::from(code));
            result.map_err(|status| BrokerError::from_status(&status))
        }
        .instrument(span)
        .await
    }

    async fn attempt<M, R, S, F>(&self, message: M, send: S) -> Result<R, Status>
    where
        M: Clone + Send + Sync,
        R: Send,
        S: Fn(Wire, Request<M>) -> F + Sync,
        F: Future<Output = Result<Response<R>, Status>> + Send,
    {
        let deadline = Instant::now() + CALL_TIMEOUT;
        let bearer = self.shared.token.bearer().await?;
        let attempts = Attempts {
            pool: &self.shared.replicas,
            budget: &self.shared.budget,
            metrics: &self.shared.metrics,
        };
        let response = attempts
            .run(deadline, |lease: &Lease| {
                let mut request = Request::new(message.clone());
                request.metadata_mut().insert("authorization", bearer.clone());
                // What remains: a replica must not work on for somebody who has left.
                request.set_timeout(deadline.saturating_duration_since(Instant::now()));
                propagation::inject_current(request.metadata_mut().as_mut());
                // On the heap: a call has room for several attempts, and an attempt is kilobytes.
                Box::pin(send(lease.wire(), request))
            })
            .await?;
        Ok(response.into_inner())
    }
}
