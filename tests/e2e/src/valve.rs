//! A way to a server on which what clients send can be held back, as in a network or a proxy that is slow. What was sent
//! arrives when it is let go on, though the client is long gone.
//!
//! Connections are made all the same: a client that has more to say than it has connections makes new ones, and would not
//! get so far as to send anything. So records of TLS are looked at, from outside: those of a handshake pass.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What is read at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// A record of TLS begins with its type, a version, and the length of the rest.
const HEADER: usize = 5;
/// The type of what is encrypted: requests, and from TLS 1.3 on the end of a handshake,
const ENCRYPTED: u8 = 23;
/// which is shorter than this. A request carries a token.
const REQUEST: usize = 256;

/// Forwards connections of TLS. Dropping it ends them.
pub struct Valve {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    held: Arc<AtomicUsize>,
    _forwarding: JoinSet<()>,
}

impl Valve {
    /// Listens on a free port of the loopback interface, in front of this server. It is open.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let is_open = watch::Sender::new(true);
        let receiver = is_open.subscribe();
        let held = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&held);
        let mut forwarding = JoinSet::new();
        forwarding.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((client, _peer)) = listener.accept() => {
                        connections.spawn(forward(client, server, receiver.clone(), Arc::clone(&count)));
                    }
                    Some(_ended) = connections.join_next() => {}
                }
            }
        });
        Ok(Self {
            address,
            is_open,
            held,
            _forwarding: forwarding,
        })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds back what clients send from now on. Answers pass.
    pub fn close(&self) {
        self.is_open.send_replace(false);
    }

    /// Lets go on what was held back, in its order.
    pub fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// How many bytes it holds back.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

async fn forward(
    client: TcpStream,
    server: SocketAddr,
    is_open: watch::Receiver<bool>,
    held: Arc<AtomicUsize>,
) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = async {
        // An error is the end of the one or of the other, and either way nothing more can be sent.
        drop(pass_requests(from_client, to_server, is_open, &held).await);
    };
    tokio::select! {
        () = requests => {}
        () = pass_answers(from_server, to_client) => {}
    }
}

/// Everything is read as it comes: what waits in a socket is lost when its client is killed.
async fn pass_requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut is_open: watch::Receiver<bool>,
    held: &AtomicUsize,
) -> io::Result<()> {
    let (mut waiting, mut has_ended) = (Vec::new(), false);
    loop {
        let is_free = *is_open.borrow_and_update();
        let passing = if is_free {
            waiting.len()
        } else {
            handshakes(&waiting)
        };
        let rest = waiting.split_off(passing);
        to.write_all(&waiting).await?;
        held.fetch_sub(waiting.len(), Ordering::SeqCst);
        waiting = rest;
        waiting.reserve(CHUNK);
        tokio::select! {
            changed = is_open.changed() => if changed.is_err() { return Ok(()) },
            read = from.read_buf(&mut waiting), if !has_ended => match read {
                Ok(read @ 1..) => { held.fetch_add(read, Ordering::SeqCst); }
                // The server is not told: it would give up what it has not answered.
                Ok(_) | Err(_) => has_ended = true,
            },
        }
    }
}

/// How much of this passes a valve that is closed: whole records, up to the first request.
fn handshakes(records: &[u8]) -> usize {
    let mut end = 0;
    while let Some(&[kind, _, _, high, low]) = records.get(end..end + HEADER) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let next = end + HEADER + length;
        if (kind == ENCRYPTED && length >= REQUEST) || next > records.len() {
            break;
        }
        end = next;
    }
    end
}

/// Until the server ends the connection, whether somebody listens or not.
async fn pass_answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut chunk = vec![0; CHUNK];
    let mut is_heard = true;
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let answer = chunk.get(..read).unwrap_or_default();
        is_heard = is_heard && to.write_all(answer).await.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, length: u16) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        let mut record = vec![kind, 3, 3, high, low];
        record.resize(HEADER + usize::from(length), 0);
        record
    }

    #[test]
    fn valve_lets_a_handshake_pass_and_nothing_from_the_first_request_on() {
        let [hello, change, finished] = [record(22, 1_500), record(20, 1), record(23, 53)];
        let [request, small] = [record(23, 1_200), record(23, 40)];
        let handshake = [&*hello, &change, &finished].concat();
        for (sent, passing) in [
            (handshake.clone(), handshake.len()),
            ([&*handshake, &request, &small].concat(), handshake.len()),
            ([&*request, &small].concat(), 0),
            // The rest of it is still to come.
            (hello[..700].to_vec(), 0),
            ([&*handshake, &hello[..3]].concat(), handshake.len()),
            (Vec::new(), 0),
        ] {
            assert_eq!(handshakes(&sent), passing);
        }
    }
}
