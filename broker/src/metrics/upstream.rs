//! What is asked of Azure, how it goes, and what is not asked because the broker itself holds it back.
//!
//! `upstream` is an endpoint (`entra`, `imds`, `acr_exchange`, `acr_token`), or a kind of host (`entra`, `imds`, `acr`)
//! where a fact is the host's. Names of registries and tenants are no labels: they come from requests.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// The metrics of calls to Azure.
#[derive(Clone)]
pub struct UpstreamMetrics {
    requests: Family<RequestLabels, Counter>,
    duration: Family<UpstreamLabel, Histogram>,
    withheld: Family<WithheldLabels, Counter>,
    in_flight: Family<UpstreamLabel, Gauge>,
    throttled_until: Family<UpstreamLabel, Gauge<f64, AtomicU64>>,
    open_circuits: Family<UpstreamLabel, Gauge>,
    clock_skew: Family<UpstreamLabel, Gauge<f64, AtomicU64>>,
}

/// A call in flight; counted until it is dropped.
pub struct InFlight(Gauge);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    upstream: &'static str,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithheldLabels {
    upstream: &'static str,
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabel {
    upstream: &'static str,
}

impl UpstreamMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            // 5 ms (IMDS from its cache) to 20 s (longer than any deadline).
            duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 13))),
            withheld: Family::default(),
            in_flight: Family::default(),
            throttled_until: Family::default(),
            open_circuits: Family::default(),
            clock_skew: Family::default(),
        };
        registry.register(
            "acrpull_broker_upstream_requests",
            "Calls to Azure by endpoint and status code (none: no answer)",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "acrpull_broker_upstream_duration",
            "Time from sending a call to Azure to the end of its answer, without the wait for a place",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "acrpull_broker_upstream_withheld",
            "Calls to Azure that the broker itself did not make, by endpoint and why",
            metrics.withheld.clone(),
        );
        registry.register(
            "acrpull_broker_upstream_in_flight",
            "Calls to Azure that wait for an answer",
            metrics.in_flight.clone(),
        );
        registry.register_with_unit(
            "acrpull_broker_upstream_throttled_until_timestamp",
            "Until when hosts of this kind asked for no calls; the latest of them, in the past if none does now",
            Unit::Seconds,
            metrics.throttled_until.clone(),
        );
        registry.register(
            "acrpull_broker_upstream_open_circuits",
            "Hosts of this kind that are not called because calls to them fail",
            metrics.open_circuits.clone(),
        );
        registry.register_with_unit(
            "acrpull_broker_clock_skew",
            "By how much the clock of the last answer was ahead of the broker's",
            Unit::Seconds,
            metrics.clock_skew.clone(),
        );
        metrics
    }

    /// Counts one call and its time; `status` is absent when there was no answer.
    pub fn observe_call(&self, upstream: &'static str, status: Option<u16>, took: Duration) {
        let code = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.requests
            .get_or_create(&RequestLabels { upstream, code })
            .inc();
        self.duration
            .get_or_create(&UpstreamLabel { upstream })
            .observe(took.as_secs_f64());
    }

    /// Counts one call that was not made.
    pub fn count_withheld(&self, upstream: &'static str, why: &'static str) {
        self.withheld
            .get_or_create(&WithheldLabels { upstream, why })
            .inc();
    }

    /// Counts a call in flight.
    pub fn in_flight(&self, upstream: &'static str) -> InFlight {
        let gauge = self.in_flight.get_or_create_owned(&UpstreamLabel { upstream });
        gauge.inc();
        InFlight(gauge)
    }

    /// A host of this kind asked for no calls until `end`.
    pub fn throttled_until(&self, upstream: &'static str, end: SystemTime) {
        let end = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let gauge = self
            .throttled_until
            .get_or_create_owned(&UpstreamLabel { upstream });
        if end > gauge.get() {
            gauge.set(end);
        }
    }

    /// So many hosts of this kind are not called.
    pub fn set_open_circuits(&self, upstream: &'static str, hosts: usize) {
        self.open_circuits
            .get_or_create(&UpstreamLabel { upstream })
            .set(i64::try_from(hosts).unwrap_or(i64::MAX));
    }

    /// How far apart the clocks are.
    pub fn set_clock_skew(&self, upstream: &'static str, seconds: f64) {
        self.clock_skew
            .get_or_create(&UpstreamLabel { upstream })
            .set(seconds);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
