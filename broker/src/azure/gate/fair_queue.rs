//! Who goes next, where callers must wait for a host: which cluster, then which of its namespaces, by what is short there
//! (`order`), and within a namespace the most urgent first.
//!
//! So a cluster gets no more by naming more namespaces, a namespace that asks a thousand times no more than one that asks
//! once, and neither by calls that take long, nor by calls that end at once (guarantee U6); and after a cold start the
//! tokens that end first are renewed first (U8).

mod lines;
mod order;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use super::{held::Held, limits::Places};
use crate::tenant::Tenant;
use lines::Lines;
use order::{Order, Standing};

/// Place in a tenant's line. What expires first goes first, after those who hold nothing; then who came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    held_until: Option<SystemTime>,
    arrival: u64,
}

/// The callers that wait for one host, and whose calls it has in flight.
pub(super) struct FairQueue<W> {
    bound: usize,
    held: Held,
    clusters: HashMap<Arc<str>, Cluster<W>>,
    /// Those with a line.
    turns: BTreeMap<Standing, Arc<str>>,
    len: usize,
    arrivals: u64,
    last_turn: u64,
}

/// A cluster that waits.
struct Cluster<W> {
    standing: Standing,
    lines: Lines<W>,
}

impl<W> FairQueue<W> {
    pub(super) fn new(bound: usize, places: Places) -> Self {
        Self {
            bound,
            held: Held::none_of(places),
            clusters: HashMap::new(),
            turns: BTreeMap::new(),
            len: 0,
            arrivals: 0,
            last_turn: 0,
        }
    }

    /// The calls in flight.
    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a waiter. If that is one too many, one of the cluster with the most goes, which may be this one: of its longest
    /// line the least urgent.
    pub(super) fn push(
        &mut self,
        tenant: &Tenant,
        held_until: Option<SystemTime>,
        waiter: W,
    ) -> (Rank, Option<W>) {
        self.arrivals += 1;
        let rank = Rank {
            held_until,
            arrival: self.arrivals,
        };
        let (of_cluster, of_tenant) = self.held.by(tenant);
        let cluster = self
            .clusters
            .entry(Arc::clone(&tenant.cluster))
            .or_insert_with(|| {
                self.last_turn += 1;
                let standing = Standing {
                    held: of_cluster,
                    turn: self.last_turn,
                };
                self.turns.insert(standing, Arc::clone(&tenant.cluster));
                Cluster {
                    standing,
                    lines: Lines::new(),
                }
            });
        cluster.lines.push(tenant, of_tenant, rank, waiter);
        self.len += 1;
        let displaced = if self.len > self.bound {
            self.drop_one()
        } else {
            None
        };
        (rank, displaced)
    }

    /// Who goes first, of those who may start a call: as a cluster and as a namespace, here and by `total`, the calls to
    /// all hosts. `starts_are_short` where the host's rate has not enough of them for all of its places.
    pub(super) fn next(&self, total: &Held, starts_are_short: bool) -> Option<&Tenant> {
        let held = [&self.held, total];
        if held.iter().any(|held| held.is_full()) {
            return None;
        }
        let may = |tenant: &Tenant| held.iter().all(|held| held.may(tenant));
        let places_are_short = held.iter().any(|held| held.is_short());
        let name = Order::of(starts_are_short, places_are_short).first(&self.turns, |name| {
            let cluster = self.clusters.get(name);
            cluster.is_some_and(|cluster| cluster.lines.has_one(may))
                && held.iter().all(|held| held.cluster_may(name))
        })?;
        let cluster = self.clusters.get(name)?;
        // One that holds less than its share finds more places yet, so that its namespaces lack none.
        let has_its_share = order::is_a_share(cluster.standing.held, &self.turns);
        let its_places_are_short =
            places_are_short && has_its_share || held.iter().any(|held| held.cluster_is_short(name));
        let order = Order::of(starts_are_short, its_places_are_short);
        cluster.lines.next(order, may)
    }

    /// Takes the most urgent waiter of `tenant`. No turn is used up before a call has started.
    pub(super) fn pop(&mut self, tenant: &Tenant) -> Option<W> {
        let waiter = self.clusters.get_mut(&tenant.cluster)?.lines.pop(tenant)?;
        self.len -= 1;
        self.close_if_empty(&tenant.cluster);
        Some(waiter)
    }

    /// A call of `tenant` has started. The next turn of its cluster comes after those of all others.
    pub(super) fn started(&mut self, tenant: &Tenant) {
        self.held.take(tenant);
        self.last_turn += 1;
        let turn = self.last_turn;
        let (of_cluster, of_tenant) = self.held.by(tenant);
        self.stand(&tenant.cluster, |cluster| {
            cluster.lines.started(tenant, of_tenant);
            Standing {
                held: of_cluster,
                turn,
            }
        });
    }

    /// It has ended.
    pub(super) fn ended(&mut self, tenant: &Tenant) {
        self.held.free(tenant);
        let (of_cluster, of_tenant) = self.held.by(tenant);
        self.stand(&tenant.cluster, |cluster| {
            cluster.lines.ended(tenant, of_tenant);
            Standing {
                held: of_cluster,
                ..cluster.standing
            }
        });
    }

    /// Takes out one that no longer waits.
    pub(super) fn remove(&mut self, tenant: &Tenant, rank: Rank) -> Option<W> {
        let lines = &mut self.clusters.get_mut(&tenant.cluster)?.lines;
        let waiter = lines.remove(tenant, rank)?;
        self.len -= 1;
        self.close_if_empty(&tenant.cluster);
        Some(waiter)
    }

    /// Takes out all that `matches`.
    pub(super) fn drain(&mut self, matches: impl Fn(&W) -> bool) -> Vec<W> {
        let mut drained = Vec::new();
        let names: Vec<Arc<str>> = self.turns.values().cloned().collect();
        for name in names {
            if let Some(cluster) = self.clusters.get_mut(&name) {
                drained.extend(cluster.lines.drain(&matches));
            }
            self.close_if_empty(&name);
        }
        self.len -= drained.len();
        drained
    }

    fn drop_one(&mut self) -> Option<W> {
        let with_the_most = self
            .clusters
            .iter_mut()
            .max_by_key(|(_, cluster)| cluster.lines.len());
        let (name, cluster) = with_the_most?;
        let (name, waiter) = (Arc::clone(name), cluster.lines.drop_one()?);
        self.len -= 1;
        self.close_if_empty(&name);
        Some(waiter)
    }

    /// Gives a cluster that waits its new place among the others.
    fn stand(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Cluster<W>) -> Standing) {
        if let Some(cluster) = self.clusters.get_mut(name) {
            self.turns.remove(&cluster.standing);
            cluster.standing = change(cluster);
            self.turns.insert(cluster.standing, Arc::clone(name));
        }
    }

    fn close_if_empty(&mut self, name: &Arc<str>) {
        let is_empty = |cluster: &Cluster<W>| cluster.lines.is_empty();
        if self.clusters.get(name).is_some_and(is_empty)
            && let Some(cluster) = self.clusters.remove(name)
        {
            self.turns.remove(&cluster.standing);
        }
    }
}

#[cfg(test)]
mod tests;
