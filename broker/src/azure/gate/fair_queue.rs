//! Who goes next, where callers must wait for a host: the cluster with the fewest calls in flight there, within it the
//! namespace with the fewest, among equals in turn, and within a namespace the most urgent first.
//!
//! So a cluster holds no more places by naming more namespaces, a namespace that asks a thousand times no more than one
//! that asks once, and neither by calls that take long (guarantee U6); and after a cold start the tokens that end first
//! are renewed first (U8).

mod lines;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use super::{held::Held, limits::Places};
use crate::tenant::Tenant;
use lines::Lines;

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
    /// Those with a line; the first one is next.
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

/// Place among clusters, or among the namespaces of one. Who has the fewest calls in flight goes first; then in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    held: u32,
    turn: u64,
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

    /// Who has the fewest calls in flight, and among equals the first in turn, of those who may: as a cluster and as a
    /// namespace, here and by what else is asked of them.
    pub(super) fn next(
        &self,
        cluster_may: impl Fn(&Arc<str>) -> bool,
        may: impl Fn(&Tenant) -> bool,
    ) -> Option<&Tenant> {
        if self.held.is_full() {
            return None;
        }
        self.turns
            .values()
            .filter(|cluster| self.held.cluster_may(cluster) && cluster_may(cluster))
            .find_map(|cluster| {
                let lines = &self.clusters.get(cluster)?.lines;
                lines.next(|tenant| self.held.may(tenant) && may(tenant))
            })
    }

    /// Takes the most urgent waiter of `tenant`. Its cluster's next turn comes after those of all that have as many calls
    /// in flight.
    pub(super) fn pop(&mut self, tenant: &Tenant) -> Option<W> {
        let cluster = self.clusters.get_mut(&tenant.cluster)?;
        let waiter = cluster.lines.pop(tenant)?;
        self.len -= 1;
        self.last_turn += 1;
        let turn = self.last_turn;
        self.stand(&tenant.cluster, |standing| standing.turn = turn);
        self.close_if_empty(&tenant.cluster);
        Some(waiter)
    }

    /// A call of `tenant` has started.
    pub(super) fn started(&mut self, tenant: &Tenant) {
        self.held.take(tenant);
        self.stand_anew(tenant);
    }

    /// It has ended.
    pub(super) fn ended(&mut self, tenant: &Tenant) {
        self.held.free(tenant);
        self.stand_anew(tenant);
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

    /// Where `tenant` and its cluster wait, their places follow from what they hold now.
    fn stand_anew(&mut self, tenant: &Tenant) {
        let (of_cluster, of_tenant) = self.held.by(tenant);
        if let Some(cluster) = self.clusters.get_mut(&tenant.cluster) {
            cluster.lines.holds(tenant, of_tenant);
            self.stand(&tenant.cluster, |standing| standing.held = of_cluster);
        }
    }

    fn stand(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Standing)) {
        if let Some(cluster) = self.clusters.get_mut(name) {
            self.turns.remove(&cluster.standing);
            change(&mut cluster.standing);
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
