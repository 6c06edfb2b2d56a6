//! Who may have how much of a cache, of its keys and of its fetches (guarantee U6). Counts, and decides on that; knows
//! neither keys nor tokens.
//!
//! A namespace has a fifth at most, always. A cluster has what nobody else needs: of a cache that is nearly full, and of
//! the fetches as soon as another cluster fetches too, no more than its [`share`]. So it gains nothing by naming more
//! namespaces, and alone it is not held back.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use super::flights::{Limits, Party};
use crate::tenant::{Tenant, share};

/// Fetches in flight per cache at most; more is an overload that waiting would make worse.
pub(super) const MAX_FLIGHTS: usize = 4096;
/// A syncer asks 512 questions at a time at most, so its namespaces do not meet the bound of one namespace.
pub(super) const MAX_FLIGHTS_PER_NAMESPACE: usize = MAX_FLIGHTS / NAMESPACE_SHARE;
/// Alone, a cluster leaves an eighth for the next one.
const MAX_FLIGHTS_ALONE: usize = MAX_FLIGHTS - MAX_FLIGHTS / 8;
/// One namespace holds at most this part, so that it cannot evict the keys of all others.
const NAMESPACE_SHARE: usize = 5;
/// A cache in which less than this part is free is nearly full. At 20,000 keys it has room for what the other clusters can
/// fetch from a registry between two rounds of maintenance, 10 s apart.
const RESERVE: u64 = 16;

/// What may be in the air.
pub(super) const FLIGHTS: Limits = Limits {
    all: MAX_FLIGHTS,
    per_party: MAX_FLIGHTS_PER_NAMESPACE,
    per_group: flights_per_cluster,
};

/// What would be too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quota {
    /// The namespace holds its part.
    Namespace,
    /// The cache is nearly full, and the cluster holds its share.
    Cluster,
}

/// What is held, in bytes, by whom.
pub(super) struct Holders {
    capacity: u64,
    /// What a key weighs at least.
    least: u32,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: u64,
    by_cluster: HashMap<Arc<str>, u64>,
    by_tenant: HashMap<Tenant, u64>,
}

impl Party for Tenant {
    type Group = Arc<str>;

    fn group(&self) -> &Self::Group {
        &self.cluster
    }
}

fn flights_per_cluster(clusters: usize) -> usize {
    if clusters <= 1 {
        return MAX_FLIGHTS_ALONE;
    }
    usize::try_from(share(MAX_FLIGHTS as u64, clusters)).unwrap_or(MAX_FLIGHTS)
}

impl Holders {
    pub(super) fn new(capacity: u64, least: u32) -> Self {
        Self {
            capacity,
            least,
            held: Mutex::default(),
        }
    }

    pub(super) fn enter(&self, tenant: &Tenant, bytes: u32) {
        self.change(|held| {
            let bytes = u64::from(bytes);
            held.all += bytes;
            *held.by_cluster.entry(Arc::clone(&tenant.cluster)).or_default() += bytes;
            *held.by_tenant.entry(tenant.clone()).or_default() += bytes;
        });
    }

    pub(super) fn leave(&self, tenant: &Tenant, bytes: u32) {
        self.change(|held| {
            let bytes = u64::from(bytes);
            held.all = held.all.saturating_sub(bytes);
            less(&mut held.by_cluster, &tenant.cluster, bytes);
            less(&mut held.by_tenant, tenant, bytes);
        });
    }

    /// What stands against one more key of `tenant`.
    pub(super) fn too_much(&self, tenant: &Tenant) -> Option<Quota> {
        let one_more = u64::from(self.least);
        self.change(|held| {
            let of_namespace = held.by_tenant.get(tenant).copied().unwrap_or_default();
            if of_namespace + one_more > self.capacity / NAMESPACE_SHARE as u64 {
                return Some(Quota::Namespace);
            }
            let of_cluster = held.by_cluster.get(&tenant.cluster).copied()?;
            let is_too_much = self.shortage(held) > 0
                && held.by_cluster.len() > 1
                && of_cluster + one_more > self.share(held);
            is_too_much.then_some(Quota::Cluster)
        })
    }

    /// Which cluster has to give way, and by how many bytes: of a cache that is nearly full the one that holds the most, if that
    /// is more than its share.
    pub(super) fn must_give_way(&self) -> Option<(Arc<str>, u64)> {
        self.change(|held| {
            let (cluster, of_cluster) = held.by_cluster.iter().max_by_key(|(_cluster, bytes)| **bytes)?;
            let bytes = self
                .shortage(held)
                .min(of_cluster.saturating_sub(self.share(held)));
            (held.by_cluster.len() > 1 && bytes > 0).then(|| (Arc::clone(cluster), bytes))
        })
    }

    /// By how much less is free than should be.
    fn shortage(&self, held: &Held) -> u64 {
        (held.all + self.capacity / RESERVE).saturating_sub(self.capacity)
    }

    fn share(&self, held: &Held) -> u64 {
        share(self.capacity, held.by_cluster.len())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn less<K: Eq + Hash>(held: &mut HashMap<K, u64>, by: &K, bytes: u64) {
    if let Some(count) = held.get_mut(by) {
        *count = count.saturating_sub(bytes);
        if *count == 0 {
            held.remove(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: u64 = 16_000;
    const KEY: u32 = 10;

    fn tenant(cluster: &str, namespace: usize) -> Tenant {
        Tenant {
            cluster: cluster.into(),
            namespace: format!("n{namespace}").into(),
        }
    }

    /// Stores as many keys as it may of so many, each of a namespace of its own.
    fn fill(holders: &Holders, cluster: &str, keys: usize) -> usize {
        let namespaces = (0..keys).map(|number| tenant(cluster, number));
        namespaces
            .filter(|tenant| {
                let may = holders.too_much(tenant).is_none();
                if may {
                    holders.enter(tenant, KEY);
                }
                may
            })
            .count()
    }

    #[test]
    fn u6_namespace_holds_a_fifth_and_a_cluster_alone_all_of_it() {
        let holders = Holders::new(CAPACITY, KEY);
        while holders.too_much(&tenant("east", 0)).is_none() {
            holders.enter(&tenant("east", 0), KEY);
        }
        assert_eq!(holders.change(|held| held.all), CAPACITY / 5);
        assert_eq!(holders.too_much(&tenant("east", 0)), Some(Quota::Namespace));
        assert_eq!(
            fill(&holders, "east", 1601),
            1600,
            "what is too much is evicted by age"
        );
        assert_eq!(holders.must_give_way(), None);
    }

    #[test]
    fn u6_cluster_of_a_full_cache_has_its_share_however_many_namespaces_it_names() {
        let holders = Holders::new(CAPACITY, KEY);
        assert_eq!(fill(&holders, "noisy", 1499), 1499);
        assert_eq!(fill(&holders, "quiet", 1), 1);
        // A sixteenth is free: from here on the one with more than half gets nothing, and the other all it wants.
        assert_eq!(fill(&holders, "noisy", 10), 1);
        assert_eq!(holders.too_much(&tenant("noisy", 5000)), Some(Quota::Cluster));
        assert_eq!(fill(&holders, "quiet", 300), 300);
        let (cluster, bytes) = holders.must_give_way().unwrap();
        assert_eq!((&*cluster, bytes), ("noisy", 301 * u64::from(KEY)));
        // It never falls below its share for that.
        for number in 0..1500 - 800 {
            holders.leave(&tenant("noisy", number), KEY);
        }
        fill(&holders, "quiet", 10_000);
        assert_eq!(holders.must_give_way().map(|(cluster, _)| cluster), None);
    }

    #[test]
    fn u6_nothing_is_remembered_of_who_has_left() {
        let holders = Holders::new(CAPACITY, KEY);
        fill(&holders, "east", 100);
        for number in 0..100 {
            holders.leave(&tenant("east", number), KEY);
        }
        let left = holders.change(|held| (held.all, held.by_cluster.len(), held.by_tenant.len()));
        assert_eq!(left, (0, 0, 0));
    }
}
