//! Keeps one address connected: connects, lists the connection while it takes requests, connects again.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runtime::error_chain::ErrorChain;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::{Connection, OpenConnections, backoff};
use crate::{
    attempts::ReplicaId,
    connection::{Connector, Wire},
    metrics::ClientMetrics,
};

/// A connection that ends sooner counts as a failure: a server that accepts and hangs up must not be called without pause.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// What it takes to keep any address.
#[derive(Debug, Clone)]
pub(super) struct Keeper {
    connector: Arc<Connector>,
    list: List,
}

#[derive(Debug, Clone)]
struct List {
    open: Arc<watch::Sender<OpenConnections>>,
    serials: Arc<AtomicU64>,
    metrics: ClientMetrics,
}

/// A connection on the list; dropping it takes it off, however the task ends.
struct Listed {
    list: List,
    id: ReplicaId,
}

impl Keeper {
    pub(super) fn new(
        connector: Connector,
        open: watch::Sender<OpenConnections>,
        metrics: ClientMetrics,
    ) -> Self {
        Self {
            connector: Arc::new(connector),
            list: List {
                open: Arc::new(open),
                serials: Arc::default(),
                metrics,
            },
        }
    }

    /// Keeps `address` until the task is ended; tells `lost` of each connection that ends or cannot be made.
    pub(super) async fn run(self, address: SocketAddr, lost: Arc<Notify>) {
        let mut failures: u32 = 0;
        loop {
            match self.connector.connect(address).await {
                Ok((wire, ended)) => {
                    let since = Instant::now();
                    let listed = self.list.add(address, wire);
                    if failures > 0 {
                        tracing::info!(%address, "a replica of the broker is back");
                    }
                    let end = ended.await;
                    drop(listed);
                    tracing::debug!(%address, ?end, "a connection to the broker has ended");
                    failures = if since.elapsed() < SHORT_LIFE {
                        failures.saturating_add(1)
                    } else {
                        0
                    };
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    // Less and less often, the longer it lasts; the metric says that it does.
                    if failures.is_power_of_two() {
                        let error = ErrorChain(&error);
                        tracing::warn!(%address, %error, failures, "cannot connect to a replica of the broker");
                    }
                }
            }
            lost.notify_one();
            sleep(backoff::pause(failures, rand::random())).await;
        }
    }
}

impl List {
    fn add(&self, address: SocketAddr, wire: Wire) -> Listed {
        let id = ReplicaId {
            address,
            serial: self.serials.fetch_add(1, Ordering::Relaxed),
        };
        let connection = Connection::new(id, wire);
        self.open.send_modify(|open| open.push(Arc::new(connection)));
        self.metrics.replicas.inc();
        Listed {
            list: self.clone(),
            id,
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.list
            .open
            .send_modify(|open| open.retain(|connection| connection.id != self.id));
        self.list.metrics.replicas.dec();
    }
}
