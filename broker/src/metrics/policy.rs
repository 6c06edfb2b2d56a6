//! What the policy only reports. The label is the name of a configured cluster.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Metrics of the policy.
#[derive(Debug, Clone)]
pub struct PolicyMetrics {
    reported: Family<ClusterLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabel {
    cluster: Arc<str>,
}

impl PolicyMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reported: Family::default(),
        };
        registry.register(
            "acrpull_broker_grants_reported",
            "Requests that no grant allows, let through because the grants of their cluster are report-only",
            metrics.reported.clone(),
        );
        metrics
    }

    /// Counts a request that was let through without a grant that it needs.
    pub fn count_reported(&self, cluster: &Arc<str>) {
        let cluster = Arc::clone(cluster);
        self.reported.get_or_create(&ClusterLabel { cluster }).inc();
    }
}
