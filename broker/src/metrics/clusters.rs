//! What single clusters do. The labels are names of configured clusters; namespaces are none, because a syncer can name as
//! many as it likes.

use std::sync::Arc;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// The metrics by cluster.
#[derive(Clone)]
pub struct ClusterMetrics {
    throttled: Family<ThrottledLabels, Counter>,
    new_keys: Family<NewKeysLabels, Counter>,
}

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
struct NewKeysLabels {
    cache: &'static str,
    cluster: String,
}

impl ClusterMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            throttled: Family::default(),
            new_keys: Family::default(),
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
        metrics
    }

    /// The counter of requests of `cluster` that met a limit.
    pub fn throttled(&self, cluster: &str, limit: Limited) -> Counter {
        self.throttled.get_or_create_owned(&ThrottledLabels {
            cluster: cluster.to_owned(),
            limit,
        })
    }

    pub(super) fn new_keys(&self, cache: &'static str) -> NewKeys {
        NewKeys {
            cache,
            counts: self.new_keys.clone(),
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
