//! What single clusters do. The labels are names of configured clusters; namespaces are none, because a syncer can name as
//! many as it likes.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The metrics by cluster.
#[derive(Clone)]
pub struct ClusterMetrics {
    throttled: Family<ThrottledLabels, Counter>,
    new_keys: Family<NewKeysLabels, Counter>,
    contested_keys: ContestedKeys,
}

/// How many signing keys of a cluster are not used because another one of its issuer has them.
#[derive(Debug, Clone, Default)]
pub struct ContestedKeys(Family<ClusterLabel, Gauge<u64, AtomicU64>>);

/// Whose limit a request has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limited {
    /// That of the cluster.
    Cluster,
    /// That of one of its namespaces.
    Namespace,
}

/// Counts the new keys of one cache.
#[derive(Clone)]
pub(super) struct NewKeys {
    cache: &'static str,
    counts: Family<NewKeysLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ThrottledLabels {
    cluster: String,
    limit: Limited,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabel {
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NewKeysLabels {
    cache: &'static str,
    cluster: String,
}

impl ClusterMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            throttled: Family::default(),
            new_keys: Family::default(),
            contested_keys: ContestedKeys::default(),
        };
        registry.register(
            "acrpull_broker_throttled_requests",
            "Requests refused because their cluster or namespace asked too often, by cluster and limit",
            metrics.throttled.clone(),
        );
        registry.register(
            "acrpull_broker_new_keys",
            "Keys that a cluster asked for and that were not in the cache, by cache and cluster",
            metrics.new_keys.clone(),
        );
        registry.register(
            "acrpull_broker_contested_signing_keys",
            "Signing keys of a cluster that are not used because another cluster of its issuer has them, by cluster",
            metrics.contested_keys.0.clone(),
        );
        metrics
    }

    /// The counter of requests of `cluster` that met a limit.
    pub fn throttled(&self, cluster: &str, limit: Limited) -> Counter {
        self.throttled.get_or_create_owned(&ThrottledLabels {
            cluster: cluster.to_owned(),
            limit,
        })
    }

    /// The numbers of contested signing keys.
    pub fn contested_keys(&self) -> ContestedKeys {
        self.contested_keys.clone()
    }

    pub(super) fn new_keys(&self, cache: &'static str) -> NewKeys {
        NewKeys {
            cache,
            counts: self.new_keys.clone(),
        }
    }
}

impl ContestedKeys {
    /// Says how many keys of `cluster` are contested.
    pub fn set(&self, cluster: &Arc<str>, keys: usize) {
        let keys = u64::try_from(keys).unwrap_or(u64::MAX);
        self.0.get_or_create(&ClusterLabel::of(cluster)).set(keys);
    }

    /// A cluster that is gone has no number.
    pub fn forget(&self, cluster: &Arc<str>) {
        self.0.remove(&ClusterLabel::of(cluster));
    }
}

impl ClusterLabel {
    fn of(cluster: &Arc<str>) -> Self {
        Self {
            cluster: cluster.to_string(),
        }
    }
}

impl NewKeys {
    pub(super) fn count(&self, cluster: &Arc<str>) {
        let labels = NewKeysLabels {
            cache: self.cache,
            cluster: cluster.to_string(),
        };
        self.counts.get_or_create(&labels).inc();
    }
}

impl EncodeLabelValue for Limited {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = match self {
            Self::Cluster => "cluster",
            Self::Namespace => "namespace",
        };
        name.encode(encoder)
    }
}
