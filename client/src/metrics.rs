//! What the client counts. It has no name of its own in front: the program that uses it says under which prefix.

use std::{
    sync::atomic::AtomicU64,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Handles; clones count into the same metrics.
#[derive(Debug, Clone, Default)]
pub struct ClientMetrics {
    pub(crate) calls: Counter,
    pub(crate) retries: Counter,
    pub(crate) hedges: Counter,
    pub(crate) withheld: Counter,
    pub(crate) replicas: Gauge,
    /// Only where there is a certificate: 0 would look like one that has expired.
    certificate_not_after: Option<Gauge<u64, AtomicU64>>,
}

impl ClientMetrics {
    pub(crate) fn new(has_certificate: bool) -> Self {
        Self {
            certificate_not_after: has_certificate.then(Gauge::default),
            ..Self::default()
        }
    }

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
        if let Some(not_after) = &self.certificate_not_after {
            registry.register_with_unit(
                "tls_certificate_not_after",
                "When the client certificate for the broker expires, in Unix time",
                Unit::Seconds,
                not_after.clone(),
            );
        }
    }

    /// Says when the client certificate expires; one that does not say is as good as expired.
    pub(crate) fn set_certificate_not_after(&self, not_after: Option<SystemTime>) {
        if let Some(gauge) = &self.certificate_not_after {
            let since_epoch = not_after.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            gauge.set(since_epoch.unwrap_or_default().as_secs());
        }
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
        let metrics = ClientMetrics::new(true);
        metrics.register(registry.sub_registry_with_prefix("acrpull_syncer_broker"));
        metrics
            .set_certificate_not_after(UNIX_EPOCH.checked_add(std::time::Duration::from_secs(1_900_000_000)));
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
            "acrpull_syncer_broker_tls_certificate_not_after_seconds 1900000000",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn metrics_say_nothing_of_a_certificate_that_there_is_not() {
        let mut registry = Registry::default();
        ClientMetrics::default().register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(!text.contains("not_after"), "{text}");
    }
}
