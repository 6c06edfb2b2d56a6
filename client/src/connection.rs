//! One HTTP/2 connection to one replica: how it is made, and how a request goes over it.
//!
//! Made by hand and not by tonic's `Channel`, because a channel hides what balancing needs to know: whether a connection is
//! open, and whether a request that failed had left. It reconnects inside of the calls, which then wait for a dead replica,
//! and its balancer gives every replica the same load of zero.

mod heard;

use std::{
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderValue, Uri, header::USER_AGENT};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use runtime::tasks::spawn_detached;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tower_service::Service;

use crate::trust::Trust;
use heard::Heard;

/// The longest wait for a connection: TCP, TLS and HTTP/2 together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A replica that vanished without a word is noticed after this much silence (guarantee R2) ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// ... and this much patience.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// What the broker sees in its logs.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("acrpull-client/", env!("CARGO_PKG_VERSION")));

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Connector {
    trust: Trust,
    origin: Uri,
}

/// The sending end of a connection. Clones share it; the connection closes when the last one is gone and all answers are in.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    sender: SendRequest<Body>,
    origin: Uri,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no TCP connection")]
    Tcp(#[source] std::io::Error),
    #[error("no TLS session")]
    Tls(#[source] std::io::Error),
    #[error("the server does not speak HTTP/2")]
    NotHttp2,
    #[error("no HTTP/2 connection")]
    Http2(#[source] hyper::Error),
    #[error("the server closed the connection without a word")]
    HungUp,
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// It never left: sending it again is the same as sending it.
    #[error("the connection was closed before the request was sent")]
    Unsent(#[source] hyper::Error),
    /// It may have left, and nobody knows what became of it.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
}

impl Connector {
    /// `origin` gives requests their scheme and authority.
    pub(crate) fn new(trust: Trust, origin: Uri) -> Self {
        Self { trust, origin }
    }

    /// Connects to one address; the certificate must name the host, whatever the address. The handle ends with the connection:
    /// as soon as it takes no more requests, which is before those in flight are answered.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
    ) -> Result<(Wire, JoinHandle<hyper::Result<()>>), ConnectError> {
        timeout(CONNECT_TIMEOUT, self.connect_patiently(address))
            .await
            .unwrap_or(Err(ConnectError::TimedOut))
    }

    async fn connect_patiently(
        &self,
        address: SocketAddr,
    ) -> Result<(Wire, JoinHandle<hyper::Result<()>>), ConnectError> {
        let tcp = TcpStream::connect(address).await.map_err(ConnectError::Tcp)?;
        // Small requests must not wait for the acknowledgement of earlier ones.
        tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
        let tls = TlsConnector::from(self.trust.config().await)
            .connect(self.trust.server_name(), tcp)
            .await
            .map_err(ConnectError::Tls)?;
        if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectError::NotHttp2);
        }
        let (stream, heard) = Heard::new(tls);
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ConnectError::Http2)?;
        let wire = Wire {
            sender,
            origin: self.origin.clone(),
        };
        // On its own, so that answers still arrive after the replica was taken off the list. It ends with the last wire.
        let mut connection = spawn_detached(connection);
        tokio::select! {
            Ok(()) = heard => Ok((wire, connection)),
            ended = &mut connection => Err(match ended {
                Ok(Err(error)) => ConnectError::Http2(error),
                Ok(Ok(())) | Err(_) => ConnectError::HungUp,
            }),
        }
    }
}

impl Wire {
    /// Whether it takes requests.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Scheme and authority of requests.
    pub(crate) fn origin(&self) -> Uri {
        self.origin.clone()
    }
}

impl Service<http::Request<Body>> for Wire {
    type Response = http::Response<Incoming>;
    type Error = SendError;
    type Future = BoxFuture<'static, Result<Self::Response, SendError>>;

    /// Always: whether the connection is open is known for sure only when the request is sent.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.headers_mut().insert(USER_AGENT, AGENT);
        let sent = self.sender.try_send_request(request);
        Box::pin(async move {
            sent.await.map_err(|error| {
                let is_unsent = error.message().is_some();
                let error = error.into_error();
                if is_unsent {
                    SendError::Unsent(error)
                } else {
                    SendError::Broken(error)
                }
            })
        })
    }
}
