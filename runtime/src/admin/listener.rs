//! The connections of the admin listener: few, short, and never so many that a probe finds no place.
//!
//! HTTP/1 only: that is what probes and scrapers speak to a plain port.

use std::{collections::VecDeque, pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::tasks::spawn_detached;

/// The probes of a node, a few scrapers, and somebody who looks.
const MAX_CONNECTIONS: usize = 64;
/// For the headers of each request, and for the silence before them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection as a whole: an answer takes milliseconds, a slow reader of the metrics may take a while.
const MAX_AGE: Duration = Duration::from_secs(60);
/// For the request in flight at that age.
const FAREWELL: Duration = Duration::from_secs(5);
/// What is buffered of one connection; by default 400 KiB.
const MAX_BUFFER_BYTES: usize = 16 * 1024;
/// When no connection can be accepted, mostly because files have run out: trying again at once would be a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// Serves for ever. At the limit the oldest connection makes room: a probe that knocks gets the milliseconds that it
/// needs, however many connections somebody holds open.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(MAX_CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _address)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(spawn_detached(converse(stream, router.clone())).abort_handle());
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept admin connections; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, router: Router) {
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_BUFFER_BYTES);
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
    let ended = match timeout(MAX_AGE, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_elapsed) => {
            connection.as_mut().graceful_shutdown();
            timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection broke");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        task::JoinHandle,
    };

    use super::*;

    async fn server() -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/livez", get(async || "ok"));
        (address, spawn_detached(serve(listener, router)))
    }

    async fn answer(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn u8_probe_is_answered_however_many_connections_are_held_open() {
        let (address, server) = server().await;
        let mut held = Vec::new();
        for _ in 0..3 * MAX_CONNECTIONS {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(answer(address).await.starts_with("HTTP/1.1 200 "));
        // The oldest has made room.
        let mut byte = [0; 1];
        let oldest = timeout(Duration::from_secs(2), held[0].read(&mut byte));
        assert_eq!(oldest.await.expect("it stays open").unwrap_or_default(), 0);
        server.abort();
    }

    #[tokio::test]
    async fn u8_admin_connection_that_says_nothing_is_closed() {
        let (address, server) = server().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(2 * HEAD_TIMEOUT, stream.read_to_end(&mut rest));
        closed.await.expect("it stays open").unwrap();
        server.abort();
    }
}
