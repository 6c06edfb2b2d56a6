//! Sockets: accepting, TLS with a certificate for the host asked for, and the faults that act before HTTP.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::server::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::LazyConfigAcceptor;

use crate::{
    Action, HangAt, Service, egress_proxy,
    faults::Stage,
    observation::Outcome,
    request::{Request, Subject},
    serve::{FROM_THE_START, ON_A_NEW_CONNECTION, Origin, pick, serve},
    world::World,
};

/// A client that has not finished its TLS handshake by then never will.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// Pause after a failed accept, which is a lack of file descriptors: at once it would fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where Azure's services listen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upstreams {
    pub(crate) entra: SocketAddr,
    pub(crate) acr: SocketAddr,
}

/// Accepts connections until it is dropped, and all of its connections with it.
pub(crate) async fn accept(world: Arc<World>, service: Service, upstreams: Upstreams, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connection_number = world.observation.connection(service);
                let origin = Origin {
                    service,
                    connection: connection_number,
                    peer: peer.ip(),
                };
                connections.spawn(connection(Arc::clone(&world), origin, upstreams, stream));
            }
            Err(error) => {
                tracing::warn!(service = service.as_str(), %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(world: Arc<World>, origin: Origin, upstreams: Upstreams, stream: TcpStream) {
    let Some(stream) = before_tls(&world, origin, stream).await else {
        return;
    };
    match origin.service {
        Service::Imds => http(world, origin, stream).await,
        Service::Proxy => egress_proxy::tunnel(&world, origin, upstreams, stream).await,
        Service::Entra | Service::Acr => tls(world, origin, stream).await,
    }
}

/// Lets faults at `accept` act. `None`: the connection is over.
async fn before_tls(world: &World, origin: Origin, mut stream: TcpStream) -> Option<TcpStream> {
    let request = Request::connection(origin.service, "", origin.peer);
    let Some(picked) = pick(world, Stage::Accept, &request, &Subject::default()) else {
        return Some(stream);
    };
    let arrived = world.now(origin.service);
    let (call, _) = world.observation.begin(&request, origin.connection, 0, arrived);
    call.silenced_by(&picked.id);
    if picked.action == (Action::Hang { at: HangAt::Accept }) {
        wait_for_the_end(&mut stream).await;
        return None;
    }
    // The client sees a reset, as from a port where nobody listens.
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "cannot reset the connection");
    }
    call.finish(&Outcome {
        fault: Some(picked.id),
        ..Outcome::default()
    });
    None
}

/// Reads the client's hello, lets faults at `tls` act, and serves HTTP over TLS.
async fn tls(world: Arc<World>, origin: Origin, stream: TcpStream) {
    let hello = timeout(
        HANDSHAKE_TIMEOUT,
        LazyConfigAcceptor::new(Acceptor::default(), stream),
    )
    .await;
    let Ok(Ok(mut start)) = hello else { return };
    let host = start.client_hello().server_name().map(str::to_owned);
    let request = Request::connection(origin.service, host.as_deref().unwrap_or_default(), origin.peer);
    let subject = Subject {
        host: host.clone(),
        ..Subject::default()
    };
    if let Some(picked) = pick(&world, Stage::Tls, &request, &subject) {
        let arrived = world.now(origin.service);
        let (call, _) = world.observation.begin(&request, origin.connection, 0, arrived);
        call.silenced_by(&picked.id);
        if picked.action == (Action::Hang { at: HangAt::Tls }) {
            wait_for_the_end(&mut start.io).await;
        } else {
            call.finish(&Outcome {
                fault: Some(picked.id),
                ..Outcome::default()
            });
        }
        return;
    }
    let config = match world.certificates.server_config(host.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            tracing::warn!(
                host,
                error = format!("{error:#}"),
                "no certificate for the host asked for"
            );
            return;
        }
    };
    match timeout(HANDSHAKE_TIMEOUT, start.into_stream(config)).await {
        Ok(Ok(stream)) => http(world, origin, stream).await,
        Ok(Err(error)) => tracing::debug!(host, %error, "the client ended the handshake"),
        Err(_elapsed) => tracing::debug!(host, "the client did not finish the handshake"),
    }
}

async fn http(
    world: Arc<World>,
    origin: Origin,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let requests = AtomicU64::new(0);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let stages = match requests.fetch_add(1, Ordering::Relaxed) {
            0 => ON_A_NEW_CONNECTION,
            _ => FROM_THE_START,
        };
        let request = request.map(BodyExt::boxed_unsync);
        serve(Arc::clone(&world), origin, stages, request)
    });
    let server = auto::Builder::new(TokioExecutor::new());
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(service = origin.service.as_str(), error, "connection ended");
    }
}

/// Says nothing until the client has gone.
async fn wait_for_the_end(stream: &mut TcpStream) {
    let mut ignored = [0; 1_024];
    while matches!(stream.read(&mut ignored).await, Ok(length) if length > 0) {}
}
