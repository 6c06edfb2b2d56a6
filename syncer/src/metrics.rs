//! Every metric of the syncer: names, help, labels, buckets. No label names a tenant, an identity or an object; those
//! are unbounded, and the status of the bindings says them better.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use proto::Reason;
use runtime::build_info;

/// From 10 ms, about one call to the API server, doubling to 82 s.
const DELAY_BUCKETS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];

/// Handles; clones count into the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    reconciles: Family<ReconcileLabels, Counter>,
    refreshes: Family<RefreshLabels, Counter>,
    kube_requests: Family<KubeLabels, Counter>,
    link_delay: Histogram,
    ready_delay: Histogram,
    unbounded_rights: Family<RightLabels, Gauge>,
    leader: Gauge,
    events_dropped: Family<EventLabels, Counter>,
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(
    non_camel_case_types,
    reason = "the variant names are the label values of the metric"
)]
pub enum PassResult {
    /// Nothing stands in the way.
    success,
    /// A problem stands in the status.
    problem,
    /// Its binding changed while the broker was asked: the next pass has begun.
    outdated,
    /// Somebody else was faster at the Secret: it is looked at again soon.
    outpaced,
    /// The pass itself failed; it is a fault of the syncer.
    panic,
}

/// The two kinds of events that Kubernetes knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(
    non_camel_case_types,
    reason = "the variant names are the label values of the metric"
)]
pub enum EventType {
    /// Something went well.
    normal,
    /// Something needs attention.
    warning,
}

/// What became of a question to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(
    non_camel_case_types,
    reason = "the variant names are the label values of the metric"
)]
pub enum RefreshOutcome {
    /// A new credential.
    issued,
    /// What the Secret holds is still the best there is.
    not_modified,
    /// None.
    failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    result: PassResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefreshLabels {
    outcome: RefreshOutcome,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KubeLabels {
    verb: &'static str,
    resource: &'static str,
    code: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    r#type: EventType,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RightLabels {
    resource: &'static str,
}

impl Metrics {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        build_info::register(registry, "syncer");
        let metrics = Self {
            reconciles: Family::default(),
            refreshes: Family::default(),
            kube_requests: Family::default(),
            link_delay: Histogram::new(DELAY_BUCKETS),
            ready_delay: Histogram::new(DELAY_BUCKETS),
            unbounded_rights: Family::default(),
            leader: Gauge::default(),
            events_dropped: Family::default(),
        };
        registry.register(
            "acrpull_syncer_reconcile",
            "Passes over bindings",
            metrics.reconciles.clone(),
        );
        registry.register(
            "acrpull_syncer_refresh",
            "Questions to the broker",
            metrics.refreshes.clone(),
        );
        registry.register(
            "acrpull_syncer_kube_requests",
            "Calls to the API server other than watches; code 0 means no answer",
            metrics.kube_requests.clone(),
        );
        registry.register_with_unit(
            "acrpull_syncer_link_delay",
            "From the first pass over a binding to its ServiceAccount being linked",
            Unit::Seconds,
            metrics.link_delay.clone(),
        );
        registry.register_with_unit(
            "acrpull_syncer_ready_delay",
            "From the first pass over a binding to its being ready",
            Unit::Seconds,
            metrics.ready_delay.clone(),
        );
        registry.register(
            "acrpull_syncer_unbounded_rights",
            "1 where a write that the admission policies should refuse was let through, as a dry run",
            metrics.unbounded_rights.clone(),
        );
        registry.register(
            "acrpull_syncer_leader",
            "1 where this process does the work, 0 where it stands by",
            metrics.leader.clone(),
        );
        registry.register(
            "acrpull_syncer_events_dropped",
            "Events on bindings that were not published because too many waited",
            metrics.events_dropped.clone(),
        );
        metrics
    }

    /// Whether no policy bounds the syncer's right to write `resource`.
    pub(crate) fn right_is_unbounded(&self, resource: &'static str, is_unbounded: bool) {
        self.unbounded_rights
            .get_or_create(&RightLabels { resource })
            .set(i64::from(is_unbounded));
    }

    /// Whether this process does the work.
    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Counts a pass.
    pub fn reconciled(&self, result: PassResult) {
        self.reconciles.get_or_create(&ReconcileLabels { result }).inc();
    }

    /// Counts a question to the broker.
    pub fn refreshed(&self, outcome: RefreshOutcome, reason: Option<Reason>) {
        let reason = reason.map_or("", Reason::as_str);
        self.refreshes
            .get_or_create(&RefreshLabels { outcome, reason })
            .inc();
    }

    /// Counts an event for which there was no room.
    pub(crate) fn event_dropped(&self, r#type: EventType) {
        self.events_dropped.get_or_create(&EventLabels { r#type }).inc();
    }

    /// Counts a call to the API server.
    pub(crate) fn kube_request(&self, verb: &'static str, resource: &'static str, code: u16) {
        self.kube_requests
            .get_or_create(&KubeLabels {
                verb,
                resource,
                code: u32::from(code),
            })
            .inc();
    }

    /// Measures the delay until a link was there.
    pub fn linked(&self, delay: std::time::Duration) {
        self.link_delay.observe(delay.as_secs_f64());
    }

    /// Measures the delay until a binding was ready.
    pub fn ready(&self, delay: std::time::Duration) {
        self.ready_delay.observe(delay.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_the_names_that_dashboards_use() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.reconciled(PassResult::success);
        metrics.refreshed(RefreshOutcome::failed, Some(Reason::PolicyDenied));
        metrics.kube_request("patch", "secrets", 200);
        metrics.linked(std::time::Duration::from_millis(30));
        metrics.leads(true);
        metrics.event_dropped(EventType::warning);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "acrpull_build_info{",
            "acrpull_syncer_reconcile_total{result=\"success\"} 1",
            "acrpull_syncer_refresh_total{outcome=\"failed\",reason=\"PolicyDenied\"} 1",
            "acrpull_syncer_kube_requests_total{verb=\"patch\",resource=\"secrets\",code=\"200\"} 1",
            "acrpull_syncer_link_delay_seconds_count 1",
            "acrpull_syncer_leader 1",
            "acrpull_syncer_events_dropped_total{type=\"warning\"} 1",
            "acrpull_syncer_ready_delay_seconds_count 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
