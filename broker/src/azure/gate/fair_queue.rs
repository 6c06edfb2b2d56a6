//! Who goes next, where callers must wait for a host: clusters in turn, within a cluster its namespaces in turn, and
//! within a namespace the most urgent first.
//!
//! So a cluster takes no more turns by naming more namespaces, a namespace that asks a thousand times takes no more than
//! one that asks once (guarantee U6), and after a cold start the tokens that end first are renewed first (U8).

mod lines;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use crate::tenant::Tenant;
use lines::Lines;

/// Place in a tenant's line. What expires first goes first, after those who hold nothing; then who came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    held_until: Option<SystemTime>,
    arrival: u64,
}

/// The callers that wait for one host.
pub(super) struct FairQueue<W> {
    bound: usize,
    clusters: HashMap<Arc<str>, Lines<W>>,
    /// Those with a line; the front one is next.
    turns: VecDeque<Arc<str>>,
    len: usize,
    arrivals: u64,
}

impl<W> FairQueue<W> {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            clusters: HashMap::new(),
            turns: VecDeque::new(),
            len: 0,
            arrivals: 0,
        }
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
        let lines = self
            .clusters
            .entry(Arc::clone(&tenant.cluster))
            .or_insert_with(|| {
                self.turns.push_back(Arc::clone(&tenant.cluster));
                Lines::new()
            });
        lines.push(tenant, rank, waiter);
        self.len += 1;
        let displaced = if self.len > self.bound {
            self.drop_one()
        } else {
            None
        };
        (rank, displaced)
    }

    /// The first in turn of those who may, as a cluster and as a namespace.
    pub(super) fn next(
        &self,
        cluster_may: impl Fn(&Arc<str>) -> bool,
        may: impl Fn(&Tenant) -> bool,
    ) -> Option<&Tenant> {
        self.turns
            .iter()
            .filter(|cluster| cluster_may(cluster))
            .find_map(|cluster| self.clusters.get(cluster)?.next(&may))
    }

    /// Takes the most urgent waiter of `tenant`. Its cluster's next turn comes after those of all other clusters.
    pub(super) fn pop(&mut self, tenant: &Tenant) -> Option<W> {
        let lines = self.clusters.get_mut(&tenant.cluster)?;
        let waiter = lines.pop(tenant)?;
        let is_empty = lines.is_empty();
        self.len -= 1;
        self.leave_turns(&tenant.cluster);
        if is_empty {
            self.clusters.remove(&tenant.cluster);
        } else {
            self.turns.push_back(Arc::clone(&tenant.cluster));
        }
        Some(waiter)
    }

    /// Takes out one that no longer waits.
    pub(super) fn remove(&mut self, tenant: &Tenant, rank: Rank) -> Option<W> {
        let waiter = self.clusters.get_mut(&tenant.cluster)?.remove(tenant, rank)?;
        self.len -= 1;
        self.close_if_empty(&tenant.cluster);
        Some(waiter)
    }

    /// Takes out all that `matches`.
    pub(super) fn drain(&mut self, matches: impl Fn(&W) -> bool) -> Vec<W> {
        let mut drained = Vec::new();
        let clusters: Vec<Arc<str>> = self.turns.iter().cloned().collect();
        for cluster in clusters {
            if let Some(lines) = self.clusters.get_mut(&cluster) {
                drained.extend(lines.drain(&matches));
            }
            self.close_if_empty(&cluster);
        }
        self.len -= drained.len();
        drained
    }

    fn drop_one(&mut self) -> Option<W> {
        let (cluster, lines) = self.clusters.iter_mut().max_by_key(|(_, lines)| lines.len())?;
        let (cluster, waiter) = (Arc::clone(cluster), lines.drop_one()?);
        self.len -= 1;
        self.close_if_empty(&cluster);
        Some(waiter)
    }

    fn close_if_empty(&mut self, cluster: &Arc<str>) {
        if self.clusters.get(cluster).is_some_and(Lines::is_empty) {
            self.clusters.remove(cluster);
            self.leave_turns(cluster);
        }
    }

    fn leave_turns(&mut self, cluster: &Arc<str>) {
        if let Some(position) = self.turns.iter().position(|other| other == cluster) {
            self.turns.remove(position);
        }
    }
}

#[cfg(test)]
mod tests;
