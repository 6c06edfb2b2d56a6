//! Sockets: accepting, the faults that act before anything is read, and HTTP on what is left.

use std::{
    convert::Infallible,
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
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    Service, Unanswered, egress_proxy,
    faults::Stage,
    observation::Outcome,
    request::{Request, Subject},
    serve::{AnswerBody, BodyError, Broken, Origin, Turn, act_first, pick, serve},
    world::World,
};

mod handshake;
mod wire;

use handshake::handshake;
pub(crate) use wire::Wire;
use wire::{Lent, break_off, wait_for_the_end};

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
        Service::Entra | Service::Acr => {
            if let Some(stream) = handshake(&world, origin, stream).await {
                http(world, origin, stream).await;
            }
        }
    }
}

/// Lets faults at `accept` act. `None`: the connection is over.
async fn before_tls(world: &World, origin: Origin, mut stream: TcpStream) -> Option<TcpStream> {
    let request = Request::connection(origin.service, "", origin.peer);
    let Some(picked) = pick(world, &[Stage::Accept], &request, &Subject::default()) else {
        return Some(stream);
    };
    let arrived = world.now(origin.service);
    let (call, _) = world.observation.begin(&request, origin.connection, 0, arrived);
    call.silenced_by(&picked.id);
    tokio::select! {
        _ended = act_first(world, &picked, origin.service, &call) => stream.reset_when_dropped(),
        () = wait_for_the_end(&mut stream) => return None,
    }
    call.finish(&Outcome {
        fault: Some(picked.id),
        ..Outcome::default()
    });
    None
}

/// Serves HTTP until the client or a fault ends it.
async fn http(world: Arc<World>, origin: Origin, stream: impl Wire) {
    let (lent, stream) = Lent::lend(stream);
    // The first fault that breaks the connection is the one that counts.
    let (breaks, mut broken) = mpsc::channel(1);
    let requests = AtomicU64::new(0);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let turn = match requests.fetch_add(1, Ordering::Relaxed) {
            0 => Turn::First,
            _ => Turn::Later,
        };
        let answer = serve(
            Arc::clone(&world),
            origin,
            turn,
            request.map(BodyExt::boxed_unsync),
        );
        let breaks = breaks.clone();
        async move {
            match answer.await {
                Ok(response) => Ok::<_, Infallible>(response.map(|body| telling_of_its_reset(body, breaks))),
                Err(reason) => {
                    drop(breaks.try_send(reason));
                    // Ends with the connection, which the fault now has.
                    std::future::pending().await
                }
            }
        }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    // The simulator writes `Date` itself, by the simulated clock.
    server.http1().auto_date_header(false);
    server.http2().auto_date_header(false);
    let ended = {
        let serving = server.serve_connection(TokioIo::new(lent), service);
        tokio::select! {
            biased;
            reason = broken.recv() => reason,
            ended = serving => {
                if let Err(error) = ended {
                    tracing::debug!(service = origin.service.as_str(), error, "connection ended");
                }
                broken.try_recv().ok()
            }
        }
    };
    let stream = Arc::into_inner(stream).and_then(|stream| stream.into_inner().ok());
    if let (Some(reason), Some(stream)) = (ended, stream)
        && let Err(error) = break_off(stream, reason).await
    {
        tracing::debug!(service = origin.service.as_str(), %error, "the client was gone first");
    }
}

/// A reset in the middle of a body is no business of HTTP: the connection is told.
fn telling_of_its_reset(body: AnswerBody, breaks: mpsc::Sender<Broken>) -> AnswerBody {
    let tell = move |error| {
        if matches!(error, BodyError::Reset) {
            drop(breaks.try_send(Unanswered::Reset.into()));
        }
        error
    };
    body.map_err(tell).boxed_unsync()
}
