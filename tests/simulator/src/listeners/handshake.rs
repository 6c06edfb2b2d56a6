//! TLS: the client's hello, the faults that act on it, and a certificate for the host that it names.

use std::{sync::Arc, time::Duration};

use rustls::server::Acceptor;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, server::TlsStream};

use super::wire::{Wire, wait_for_the_end};
use crate::{
    Action, TlsDefect,
    faults::Stage,
    observation::Outcome,
    request::{Request, Subject},
    serve::{Origin, Unanswered, act_first, pick},
    world::World,
};

/// A client that has not finished its TLS handshake by then never will.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// How a server answers that knows nothing later than TLS 1.0 (RFC 2246, 7.4.1.3): a record with a hello of version
/// 3.1, random numbers, no session, `TLS_RSA_WITH_AES_128_CBC_SHA`, no compression.
const TLS_1_0_HELLO: &[u8] = b"\x16\x03\x01\x00\x2a\x02\x00\x00\x26\x03\x01\
    random numbers, which none uses.\
    \x00\x00\x2f\x00";

/// Reads the client's hello, lets faults act and finishes the handshake. `None`: the connection is over.
pub(super) async fn handshake(
    world: &Arc<World>,
    origin: Origin,
    stream: TcpStream,
) -> Option<TlsStream<TcpStream>> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let mut start = timeout(HANDSHAKE_TIMEOUT, hello).await.ok()?.ok()?;
    let host = start.client_hello().server_name().map(str::to_owned);
    let request = Request::connection(origin.service, host.as_deref().unwrap_or_default(), origin.peer);
    let subject = Subject {
        host: host.clone(),
        ..Subject::default()
    };
    let Some(picked) = pick(world, &[Stage::Hello, Stage::Handshake], &request, &subject) else {
        return finished(world, start, host.as_deref(), None).await;
    };
    let arrived = world.now(origin.service);
    let (call, _) = world.observation.begin(&request, origin.connection, 0, arrived);
    call.silenced_by(&picked.id);
    let stream = if let Action::Tls { defect } = picked.action {
        spoilt(world, start, host.as_deref(), defect).await
    } else {
        tokio::select! {
            ended = act_first(world, &picked, origin.service, &call) => {
                if ended.is_err_and(|reason| reason == Unanswered::Reset) {
                    start.io.reset_when_dropped();
                }
            }
            () = wait_for_the_end(&mut start.io) => return None,
        }
        None
    };
    call.finish(&Outcome {
        fault: Some(picked.id),
        ..Outcome::default()
    });
    stream
}

/// Finishes the handshake, if the client does.
async fn finished(
    world: &World,
    start: StartHandshake<TcpStream>,
    host: Option<&str>,
    defect: Option<TlsDefect>,
) -> Option<TlsStream<TcpStream>> {
    let config = match world.certificates.server_config(host, defect) {
        Ok(config) => config,
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(host, error, "no certificate for the host asked for");
            return None;
        }
    };
    match timeout(HANDSHAKE_TIMEOUT, start.into_stream(config)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => tracing::debug!(host, %error, "the client ended the handshake"),
        Err(_elapsed) => tracing::debug!(host, "the client did not finish the handshake"),
    }
    None
}

/// Goes on with a defect. A client that does not look may still finish.
async fn spoilt(
    world: &World,
    mut start: StartHandshake<TcpStream>,
    host: Option<&str>,
    defect: TlsDefect,
) -> Option<TlsStream<TcpStream>> {
    if defect != TlsDefect::OldVersion {
        return finished(world, start, host, Some(defect)).await;
    }
    match start.io.write_all(TLS_1_0_HELLO).await {
        Ok(()) => wait_for_the_end(&mut start.io).await,
        Err(error) => tracing::debug!(%error, "the client left after its hello"),
    }
    None
}
