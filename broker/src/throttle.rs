//! How often a caller may ask: a token bucket per cluster and one per namespace of it, by authenticated identity and never by
//! address (guarantee U6). Decides on rates alone; what a request may have, others decide.
//!
//! A syncer speaks for all namespaces of its cluster: what it asks counts for the namespace that it asks for. Anybody else
//! speaks for itself and counts for its own namespace, so that no workload can use up what is its cluster's or another's.
//!
//! Each replica counts for itself. What is remembered is bounded, and no cluster can have that of another forgotten.

mod bucket;
mod namespaces;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use crate::{
    access::Role,
    authn::{Caller, ServiceAccount},
    config::Limits,
    metrics::{ClusterMetrics, Limited},
};
use bucket::Bucket;
pub use bucket::Taken;
use namespaces::Namespaces;

/// Says who may ask now.
pub struct Throttle {
    /// Of clusters that are or were configured.
    clusters: RwLock<HashMap<Arc<str>, Arc<Cluster>>>,
    started_at: Instant,
    metrics: ClusterMetrics,
}

/// What one cluster has asked lately.
struct Cluster {
    bucket: Bucket,
    namespaces: Namespaces,
    refused: Counter,
    refused_for_a_namespace: Counter,
}

/// A request that comes too soon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Throttled {
    /// The cluster's callers together ask too much.
    #[error("cluster {0} asks more often than it may")]
    Cluster(Arc<str>),
    /// A namespace of the cluster does.
    #[error("namespace {1} of cluster {0} asks more often than it may")]
    Namespace(Arc<str>, Box<str>),
}

impl Throttle {
    /// Nobody has asked yet.
    pub fn new(metrics: ClusterMetrics) -> Self {
        Self {
            clusters: RwLock::default(),
            started_at: Instant::now(),
            metrics,
        }
    }

    /// Counts a request of an authenticated caller that may make it, before anything of it has been read. What it takes of
    /// its cluster is for `admit_for`.
    ///
    /// # Errors
    /// It comes too soon.
    pub fn admit(&self, caller: &Caller, now: Instant) -> Result<Taken, Throttled> {
        let config = &caller.cluster.config;
        let since_start = self.since_start(now);
        let cluster = self.cluster(&config.name);
        let taken = cluster
            .take(&config.limits, since_start)
            .ok_or_else(|| Throttled::Cluster(Arc::clone(&config.name)))?;
        if let Some(namespace) = own_namespace(caller) {
            take_for(&cluster, caller, taken, namespace, since_start)?;
        }
        Ok(taken)
    }

    /// Counts what a caller that was admitted, once and for `taken`, asks for `namespace`, before any of it is done.
    ///
    /// # Errors
    /// It comes too soon.
    pub fn admit_for(
        &self,
        caller: &Caller,
        taken: Taken,
        namespace: &str,
        now: Instant,
    ) -> Result<(), Throttled> {
        if own_namespace(caller).is_some() {
            return Ok(());
        }
        let cluster = self.cluster(&caller.cluster.config.name);
        take_for(&cluster, caller, taken, namespace, self.since_start(now))
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started_at)
    }

    fn cluster(&self, name: &Arc<str>) -> Arc<Cluster> {
        let clusters = self.clusters.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = clusters.get(name) {
            return Arc::clone(cluster);
        }
        drop(clusters);
        let mut clusters = self.clusters.write().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(Cluster {
                bucket: Bucket::default(),
                namespaces: Namespaces::default(),
                refused: self.metrics.throttled(name, Limited::Cluster),
                refused_for_a_namespace: self.metrics.throttled(name, Limited::Namespace),
            })
        };
        Arc::clone(clusters.entry(Arc::clone(name)).or_insert_with(new))
    }
}

impl Cluster {
    fn take(&self, limits: &Limits, now: Duration) -> Option<Taken> {
        let taken = self.bucket.take(limits.per_cluster, now);
        if taken.is_none() {
            self.refused.inc();
        }
        taken
    }
}

/// What a namespace may not have it does not take from its cluster either: others are let in instead.
fn take_for(
    cluster: &Cluster,
    caller: &Caller,
    taken: Taken,
    namespace: &str,
    now: Duration,
) -> Result<(), Throttled> {
    let config = &caller.cluster.config;
    if cluster
        .namespaces
        .take(namespace, config.limits.per_namespace, now)
    {
        return Ok(());
    }
    cluster.bucket.give_back(taken, now);
    cluster.refused_for_a_namespace.inc();
    Err(Throttled::Namespace(Arc::clone(&config.name), namespace.into()))
}

/// The namespace of a caller that speaks for itself; none for a syncer, which speaks for all of its cluster.
fn own_namespace(caller: &Caller) -> Option<&str> {
    if Role::Syncer.is_of(caller) {
        return None;
    }
    ServiceAccount::parse(&caller.subject).map(|account| account.namespace)
}

#[cfg(test)]
mod tests;
