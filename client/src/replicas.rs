//! The replicas behind one name: one connection to each address, and who of them gets the next request.
//!
//! One task follows the name and keeps one more task per address (`keeper`); calls only ever read the list of open
//! connections, so no call waits for a replica that is away while another one is there.

mod backoff;
mod choice;
mod keeper;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use runtime::{error_chain::ErrorChain, tasks::spawn_detached};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    attempts::{Asked, HEDGE_AFTER, Leased, Pool, ReplicaId},
    connection::{Connector, Wire},
    metrics::ClientMetrics,
    resolve::{self, Resolve},
};
use keeper::Keeper;

/// How often the name is resolved again, spread by a tenth so that clients started together do not ask together.
const RESOLVE_PERIOD: Duration = Duration::from_secs(30);
/// A connection that is lost or cannot be made resolves the name at once, yet no more often than this: a broker that
/// restarts loses many.
const RESOLVE_GAP: Duration = Duration::from_secs(1);
/// The longest wait for the resolver.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// All replicas of one name. The tasks that look after them end with it.
#[derive(Debug)]
pub(crate) struct Replicas {
    open: watch::Receiver<OpenConnections>,
    _follower: AbortOnDropHandle<()>,
}

/// A replica that is being asked.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Arc<Connection>,
    since: Instant,
    has_answered: bool,
}

/// Connections that take requests, or did a moment ago.
type OpenConnections = Vec<Arc<Connection>>;

/// An open connection, and how busy it is.
#[derive(Debug)]
struct Connection {
    id: ReplicaId,
    wire: Wire,
    in_flight: AtomicUsize,
    /// Requests that it let wait until another replica was asked, since it last answered one. They count as load for ever:
    /// a process that hangs acknowledges keepalives, and looks idle because those who gave up on it are gone.
    silences: AtomicUsize,
}

impl Replicas {
    /// Follows `host` from now on; must run inside an async runtime.
    pub(crate) fn follow(
        host: String,
        port: u16,
        resolver: Arc<dyn Resolve>,
        connector: Connector,
        metrics: ClientMetrics,
    ) -> Self {
        let (sender, open) = watch::channel(OpenConnections::new());
        let follower = Follower {
            host,
            port,
            resolver,
            lost: Arc::default(),
            keeper: Keeper::new(connector, sender, metrics),
            keepers: BTreeMap::new(),
        };
        Self {
            open,
            _follower: AbortOnDropHandle::new(spawn_detached(follower.run())),
        }
    }
}

impl Pool for Replicas {
    type Lease = Lease;

    async fn pick(&self, asked: &Asked) -> Lease {
        let mut open = self.open.clone();
        loop {
            if let Some(lease) = pick_from(&open.borrow_and_update(), asked) {
                return lease;
            }
            if open.changed().await.is_err() {
                // Nobody looks after the list any more, so nothing will ever come; the caller's patience ends.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Another address than those that were asked; failing that, another connection, which behind a virtual address leads to
/// another replica.
fn pick_from(open: &OpenConnections, asked: &Asked) -> Option<Lease> {
    let usable = || open.iter().filter(|connection| connection.wire.is_open());
    let fresh = |is_same: fn(&ReplicaId, &ReplicaId) -> bool| -> Vec<_> {
        usable()
            .filter(|connection| !asked.any(|id| is_same(id, &connection.id)))
            .collect()
    };
    let mut candidates = fresh(|a, b| a.address == b.address);
    if candidates.is_empty() {
        candidates = fresh(|a, b| a == b);
    }
    let loads: Vec<_> = candidates.iter().map(|connection| connection.load()).collect();
    let draws = (
        rand::random_range(0..=usize::MAX),
        rand::random_range(0..=usize::MAX),
    );
    let chosen = choice::of_two(&loads, draws)?;
    candidates
        .get(chosen)
        .map(|connection| Lease::new(Arc::clone(connection)))
}

impl Connection {
    fn new(id: ReplicaId, wire: Wire) -> Self {
        Self {
            id,
            wire,
            in_flight: AtomicUsize::default(),
            silences: AtomicUsize::default(),
        }
    }

    fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed) + self.silences.load(Ordering::Relaxed)
    }
}

impl Lease {
    fn new(connection: Arc<Connection>) -> Self {
        connection.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            connection,
            since: Instant::now(),
            has_answered: false,
        }
    }

    /// What requests go over.
    pub(crate) fn wire(&self) -> Wire {
        self.connection.wire.clone()
    }
}

impl Leased for Lease {
    fn id(&self) -> ReplicaId {
        self.connection.id
    }

    fn answered(&mut self) {
        self.has_answered = true;
        self.connection.silences.store(0, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connection.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.has_answered && self.since.elapsed() >= HEDGE_AFTER {
            self.connection.silences.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Keeps the set of addresses up to date.
struct Follower {
    host: String,
    port: u16,
    resolver: Arc<dyn Resolve>,
    /// An address may have been given up: it is time to look.
    lost: Arc<Notify>,
    keeper: Keeper,
    /// Dropping a handle ends the task, and takes its connection off the list.
    keepers: BTreeMap<SocketAddr, AbortOnDropHandle<()>>,
}

impl Follower {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let asked_at = Instant::now();
            let pause = match self.resolve().await {
                Ok(addresses) => {
                    failures = 0;
                    self.take_over(addresses);
                    RESOLVE_PERIOD.mul_f64(0.9 + 0.2 * rand::random::<f64>())
                }
                Err(error) => {
                    failures += 1;
                    // Less and less often, the longer it lasts.
                    if u32::is_power_of_two(failures) {
                        tracing::warn!(host = self.host, error = %ErrorChain(&error), "cannot resolve the broker's name; what is known stays");
                    }
                    backoff::pause(failures, rand::random())
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.lost.notified() => sleep_until(asked_at + RESOLVE_GAP).await,
            }
        }
    }

    async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let addresses = timeout(RESOLVE_TIMEOUT, self.resolver.resolve(&self.host, self.port)).await??;
        if addresses.is_empty() {
            return Err(std::io::Error::other("the name has no address"));
        }
        Ok(addresses)
    }

    fn take_over(&mut self, found: Vec<SocketAddr>) {
        let held: BTreeSet<_> = self.keepers.keys().copied().collect();
        let selected = resolve::select(&held, found, &mut rand::rng());
        // A task that has ended has panicked: its address starts afresh.
        self.keepers
            .retain(|address, task| selected.contains(address) && !task.is_finished());
        for address in selected {
            self.keepers.entry(address).or_insert_with(|| {
                tracing::debug!(%address, "the broker has a replica here");
                let (keeper, lost) = (self.keeper.clone(), Arc::clone(&self.lost));
                AbortOnDropHandle::new(spawn_detached(keeper.run(address, lost)))
            });
        }
    }
}
