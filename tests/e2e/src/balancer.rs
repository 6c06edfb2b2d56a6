//! One address in front of several replicas, as a Service has it: bytes go to the replica whose turn it is.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Forwards connections. Dropping it ends them.
pub struct Balancer {
    address: SocketAddr,
    replica: watch::Sender<SocketAddr>,
    _forwarding: JoinSet<()>,
}

impl Balancer {
    /// Listens on a free port of the loopback interface, in front of this replica.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(replica: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (sender, receiver) = watch::channel(replica);
        let mut forwarding = JoinSet::new();
        forwarding.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((connection, _peer)) = listener.accept() => {
                        connections.spawn(forward(connection, receiver.clone()));
                    }
                    Some(_ended) = connections.join_next() => {}
                }
            }
        });
        Ok(Self {
            address,
            replica: sender,
            _forwarding: forwarding,
        })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends everybody to this replica: connections to another one end.
    pub fn turn_to(&self, replica: SocketAddr) {
        self.replica.send_if_modified(|current| {
            let turns = *current != replica;
            *current = replica;
            turns
        });
    }
}

async fn forward(mut connection: TcpStream, mut replica: watch::Receiver<SocketAddr>) {
    let address = *replica.borrow_and_update();
    let Ok(mut upstream) = TcpStream::connect(address).await else {
        return;
    };
    tokio::select! {
        _copied = copy_bidirectional(&mut connection, &mut upstream) => {}
        _turned = replica.changed() => {}
    }
}
