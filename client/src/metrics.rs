//! What the client counts. It has no name of its own in front: the program that uses it says under which prefix.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Handles; clones count into the same metrics.
#[derive(Debug, Clone, Default)]
pub struct ClientMetrics {
    pub(crate) calls: Counter,
    pub(crate) retries: Counter,
    pub(crate) hedges: Counter,
    pub(crate) withheld: Counter,
    pub(crate) replicas: Gauge,
}

impl ClientMetrics {
    /// Registers everything; give the prefix through [`Registry::sub_registry_with_prefix`].
    pub fn register(&self, registry: &mut Registry) {
        registry.register("calls", "Calls to the broker", self.calls.clone());
        registry.register(
            "retries",
            "Calls that were made again on another replica",
            self.retries.clone(),
        );
        registry.register(
            "hedges",
            "Calls that a second replica was asked for as well, because the first was silent",
            self.hedges.clone(),
        );
        registry.register(
            "withheld",
            "Retries and hedges that the budget did not allow",
            self.withheld.clone(),
        );
        registry.register(
            "replicas",
            "Replicas of the broker that a connection is open to",
            self.replicas.clone(),
        );
    }

    /// Replicas that a connection is open to.
    pub fn usable_replicas(&self) -> usize {
        usize::try_from(self.replicas.get()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_the_names_that_dashboards_use() {
        let mut registry = Registry::default();
        let metrics = ClientMetrics::default();
        metrics.register(registry.sub_registry_with_prefix("acrpull_syncer_broker"));
        metrics.hedges.inc();
        metrics.replicas.set(2);
        assert_eq!(metrics.usable_replicas(), 2);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "acrpull_syncer_broker_calls_total 0",
            "acrpull_syncer_broker_retries_total 0",
            "acrpull_syncer_broker_hedges_total 1",
            "acrpull_syncer_broker_withheld_total 0",
            "acrpull_syncer_broker_replicas 2",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }
}
