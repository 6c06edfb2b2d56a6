//! Places by who holds them: a cluster, and within it a namespace. Pure counting.
//!
//! Both levels have a bound below the whole, so that a newcomer finds a place whatever hangs: one of another cluster
//! beside a cluster with any number of namespaces, and one of another namespace beside any namespace (guarantee U6).

use std::{collections::HashMap, hash::Hash, sync::Arc};

use super::limits::Places;
use crate::tenant::Tenant;

/// The calls in flight, and whether there may be one more. A cluster has room or not for all of its namespaces alike.
#[derive(Debug)]
pub(super) struct Held {
    places: Places,
    all: u32,
    by_cluster: HashMap<Arc<str>, u32>,
    by_tenant: HashMap<Tenant, u32>,
}

impl Held {
    /// Nobody holds any of `places`.
    pub(super) fn none_of(places: Places) -> Self {
        Self {
            places,
            all: 0,
            by_cluster: HashMap::new(),
            by_tenant: HashMap::new(),
        }
    }

    pub(super) fn all(&self) -> u32 {
        self.all
    }

    /// How many the cluster of `tenant` holds, and how many of these the tenant itself.
    pub(super) fn by(&self, tenant: &Tenant) -> (u32, u32) {
        (
            count(&self.by_cluster, &tenant.cluster),
            count(&self.by_tenant, tenant),
        )
    }

    /// Whether all places are taken.
    pub(super) fn is_full(&self) -> bool {
        self.all >= self.places.all
    }

    /// Whether no more are left than one cluster must leave to others.
    pub(super) fn is_short(&self) -> bool {
        self.all >= self.places.per_cluster
    }

    /// Whether a cluster may have one more.
    pub(super) fn cluster_may(&self, cluster: &Arc<str>) -> bool {
        count(&self.by_cluster, cluster) < self.places.per_cluster
    }

    /// Whether a cluster has no more left than one namespace must leave to its others.
    pub(super) fn cluster_is_short(&self, cluster: &Arc<str>) -> bool {
        count(&self.by_cluster, cluster) >= self.places.per_namespace
    }

    /// Whether a namespace may have one more, if its cluster may.
    pub(super) fn may(&self, tenant: &Tenant) -> bool {
        count(&self.by_tenant, tenant) < self.places.per_namespace
    }

    pub(super) fn take(&mut self, tenant: &Tenant) {
        self.all += 1;
        *self.by_cluster.entry(Arc::clone(&tenant.cluster)).or_default() += 1;
        *self.by_tenant.entry(tenant.clone()).or_default() += 1;
    }

    pub(super) fn free(&mut self, tenant: &Tenant) {
        self.all = self.all.saturating_sub(1);
        one_less(&mut self.by_cluster, &tenant.cluster);
        one_less(&mut self.by_tenant, tenant);
    }

    /// Of how many something is remembered.
    #[cfg(test)]
    pub(super) fn holders(&self) -> usize {
        self.by_cluster.len() + self.by_tenant.len()
    }
}

fn count<K: Eq + Hash>(counts: &HashMap<K, u32>, of: &K) -> u32 {
    counts.get(of).copied().unwrap_or_default()
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, u32>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(of);
        }
    }
}
