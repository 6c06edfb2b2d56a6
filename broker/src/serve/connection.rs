//! One connection, from its TLS handshake to its end. Every stage has a deadline, and so has the whole: whoever is on the
//! other side, it costs a bounded amount of memory for a bounded time.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use runtime::Shutdown;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    DRAIN,
    conduct::{Conduct, Exchange},
    seats::Seat,
};
use crate::{
    access,
    channel::Peer,
    metrics::{Closed, ConnectionMetrics, TlsFailure},
};

/// Slow handshakes hold a connection for no longer than this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// From the handshake to the first request, and over HTTP/1 to the end of the headers of each.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For the farewell of a connection that nobody will miss.
const FAREWELL: Duration = Duration::from_secs(1);
/// Requests of one connection in flight; a syncer needs a few hundred, an attacker wants more.
const MAX_STREAMS: u32 = 512;
/// Dead peers are noticed after this much silence, and this much patience.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers of a request: a token of 16 KiB and the rest.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// What hyper buffers of one HTTP/1 connection; by default 400 KiB.
const MAX_HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// What a peer may send ahead of its being read, of one message and of all together; by default 1 MiB each.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// Answers have 64 KiB at most; by default 400 KiB are kept for a peer that does not read.
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Streams that a peer opened and reset before they were looked at, and streams that we had to reset: beyond this many
/// the connection is closed (CVE-2023-44487, RUSTSEC-2024-0003).
const MAX_RESET_STREAMS: usize = 64;

/// What all connections have in common.
pub(super) struct Terms {
    pub(super) protocols: auto::Builder<TokioExecutor>,
    pub(super) router: Router,
    pub(super) metrics: ConnectionMetrics,
    pub(super) shutdown: Shutdown,
}

/// The router, taking note of how the connection behaves.
struct Observed {
    router: TowerToHyperService<Router>,
    conduct: Arc<Conduct>,
    peer: Option<Arc<Peer>>,
}

/// HTTP/1.1 and HTTP/2 with the limits of this file.
pub(super) fn protocols() -> auto::Builder<TokioExecutor> {
    let mut protocols = auto::Builder::new(TokioExecutor::new());
    protocols
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIMEOUT)
        .max_buf_size(MAX_HTTP1_BUFFER_BYTES);
    protocols
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_RESET_STREAMS)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    protocols
}

/// Greets `stream` and serves it until its peer leaves, or has to: because it asks nothing, because its `age` is
/// reached, because it must make room, or because the process ends.
pub(super) async fn serve<S>(
    stream: S,
    certificate: Arc<ServerConfig>,
    seat: Seat,
    age: Duration,
    terms: Arc<Terms>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let conduct = Arc::new(Conduct::new(seat, terms.metrics.clone()));
    let served = async {
        match greet(stream, certificate).await {
            Ok(stream) => {
                let chain = stream.get_ref().1.peer_certificates();
                let peer = chain.and_then(Peer::of).map(Arc::new);
                converse(stream, peer, Arc::clone(&conduct), age, &terms).await;
            }
            Err(failure) => terms.metrics.count_tls_failure(failure),
        }
    };
    tokio::select! {
        () = served => {}
        () = conduct.displaced() => {}
    }
}

async fn greet<S>(stream: S, certificate: Arc<ServerConfig>) -> Result<TlsStream<S>, TlsFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(certificate).accept(stream))
        .await
        .map_err(|_elapsed| TlsFailure::Timeout)?
        .map_err(|error| tls_failure(&error))
}

fn tls_failure(error: &io::Error) -> TlsFailure {
    let tls = error
        .get_ref()
        .and_then(|source| source.downcast_ref::<rustls::Error>());
    // Whoever knocks can cause this line, so it is not for everyday.
    tracing::debug!(%error, "a TLS handshake failed");
    match tls {
        None => TlsFailure::Closed,
        Some(rustls::Error::AlertReceived(_)) => TlsFailure::Alert,
        Some(rustls::Error::PeerIncompatible(_)) => TlsFailure::Incompatible,
        Some(rustls::Error::NoCertificatesPresented) => TlsFailure::NoClientCertificate,
        Some(rustls::Error::InvalidCertificate(_)) => TlsFailure::ClientCertificate,
        Some(_) => TlsFailure::Protocol,
    }
}

async fn converse<S>(stream: S, peer: Option<Arc<Peer>>, conduct: Arc<Conduct>, age: Duration, terms: &Terms)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = Observed {
        router: TowerToHyperService::new(terms.router.clone()),
        conduct: Arc::clone(&conduct),
        peer,
    };
    let mut connection = pin!(terms.protocols.serve_connection(TokioIo::new(stream), service));
    let reason = tokio::select! {
        ended = connection.as_mut() => return log_end(ended),
        () = silent(&conduct) => Closed::Silent,
        () = conduct.spent() => Closed::Stranger,
        () = sleep(age) => Closed::Old,
        () = terms.shutdown.started() => Closed::Drained,
    };
    terms.metrics.count_closed(reason);
    // HTTP/2 says GOAWAY and finishes what has begun; HTTP/1 finishes the request in flight.
    connection.as_mut().graceful_shutdown();
    let patience = if conduct.has_asked() && reason != Closed::Stranger {
        DRAIN
    } else {
        FAREWELL
    };
    match timeout(patience, connection).await {
        Ok(ended) => log_end(ended),
        Err(_elapsed) => tracing::debug!("a connection did not end in time and was cut off"),
    }
}

fn log_end(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Waits until it is clear that nothing will be asked; for ever, if something has been.
async fn silent(conduct: &Conduct) {
    sleep(REQUEST_HEAD_TIMEOUT).await;
    if conduct.has_asked() {
        std::future::pending::<()>().await;
    }
}

impl Service<Request<Incoming>> for Observed {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let mut exchange = Exchange::begin(&self.conduct, request.version());
        let public = access::for_anybody(request.uri().path());
        request.extensions_mut().insert(Arc::clone(&self.conduct));
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(Arc::clone(peer));
        }
        let answer = self.router.call(request);
        Box::pin(async move {
            if let Some(refusal) = public.and_then(|call| exchange.refusal(call)) {
                return Ok(refusal);
            }
            let response = answer.await?;
            Ok(exchange.answer(response))
        })
    }
}

#[cfg(test)]
mod tests;
