//! Every metric of the broker. Labels come from enums and from the names of configured clusters, never from a request.

mod audit;
mod clusters;
mod policy;
mod process;
mod upstream;

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use proto::Reason;

use crate::access::Call;
pub use audit::{AuditMetrics, AuditOutcome};
use clusters::NewKeys;
pub use clusters::{ClusterMetrics, ContestedKeys, Limited};
pub use policy::PolicyMetrics;
pub use process::{CertificateMetrics, Closed, ConfigMetrics, ConnectionMetrics, TlsFailure};
pub use upstream::UpstreamMetrics;

/// All of them.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<CallLabels, Histogram>,
    cache_requests: Family<CacheLabels, Counter>,
    cache_entries: Family<CacheName, Gauge<u64, AtomicU64>>,
    cache_fetches: Family<CacheName, Gauge<u64, AtomicU64>>,
    clusters: ClusterMetrics,
    upstream: UpstreamMetrics,
    policy: PolicyMetrics,
}

/// How a look-up in a cache went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheResult {
    /// Answered from memory.
    Hit,
    /// Asked Azure.
    Miss,
    /// Waited for a call that was under way.
    Coalesced,
    /// Azure said no a moment ago and was not asked again.
    Remembered,
    /// The old token was handed out because it could not be renewed.
    Stale,
}

/// The wire that a request came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireFormat {
    /// gRPC.
    Grpc,
    /// HTTP JSON.
    Http,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A payload was handed out.
    Issued,
    /// The caller keeps what it has.
    NotModified,
    /// A call that hands out no credential was answered.
    Answered,
    /// The caller went away first.
    Cancelled,
    /// It was refused or failed.
    Failed(Reason),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    call: Call,
    transport: WireFormat,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: Call,
    transport: WireFormat,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
    result: CacheResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheName {
    cache: &'static str,
}

/// The metrics of one cache.
#[derive(Clone)]
pub struct CacheMetrics {
    hit: Counter,
    miss: Counter,
    coalesced: Counter,
    remembered: Counter,
    stale: Counter,
    entries: Gauge<u64, AtomicU64>,
    fetches: Gauge<u64, AtomicU64>,
    new_keys: NewKeys,
}

impl Metrics {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            // 0.1 ms (a hit) to 52 s (longer than any deadline).
            request_duration: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.0001, 2.0, 20))
            }),
            cache_requests: Family::default(),
            cache_entries: Family::default(),
            cache_fetches: Family::default(),
            clusters: ClusterMetrics::register(registry),
            upstream: UpstreamMetrics::register(registry),
            policy: PolicyMetrics::register(registry),
        };
        registry.register(
            "acrpull_broker_requests",
            "Requests of the calls that need a token, refused ones too, by call, transport and outcome",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "acrpull_broker_request_duration",
            "Time from the first byte of a request to its answer",
            Unit::Seconds,
            metrics.request_duration.clone(),
        );
        registry.register(
            "acrpull_broker_cache_requests",
            "Look-ups in the caches by result",
            metrics.cache_requests.clone(),
        );
        registry.register(
            "acrpull_broker_cache_entries",
            "Keys in the caches",
            metrics.cache_entries.clone(),
        );
        registry.register(
            "acrpull_broker_cache_fetches_in_flight",
            "Keys that are being fetched",
            metrics.cache_fetches.clone(),
        );
        metrics
    }

    /// Counts one request.
    pub fn observe_request(&self, call: Call, transport: WireFormat, outcome: Outcome, seconds: f64) {
        self.requests
            .get_or_create(&RequestLabels {
                call,
                transport,
                outcome,
            })
            .inc();
        self.request_duration
            .get_or_create(&CallLabels { call, transport })
            .observe(seconds);
    }

    /// The metrics of the cache called `cache`.
    pub fn cache(&self, cache: &'static str) -> CacheMetrics {
        let counter = |result| {
            self.cache_requests
                .get_or_create_owned(&CacheLabels { cache, result })
        };
        CacheMetrics {
            hit: counter(CacheResult::Hit),
            miss: counter(CacheResult::Miss),
            coalesced: counter(CacheResult::Coalesced),
            remembered: counter(CacheResult::Remembered),
            stale: counter(CacheResult::Stale),
            entries: self.cache_entries.get_or_create_owned(&CacheName { cache }),
            fetches: self.cache_fetches.get_or_create_owned(&CacheName { cache }),
            new_keys: self.clusters.new_keys(cache),
        }
    }

    /// The metrics by cluster.
    pub fn clusters(&self) -> ClusterMetrics {
        self.clusters.clone()
    }

    /// The metrics of calls to Azure.
    pub fn upstream(&self) -> UpstreamMetrics {
        self.upstream.clone()
    }

    /// The metrics of the policy.
    pub fn policy(&self) -> &PolicyMetrics {
        &self.policy
    }
}

impl CacheMetrics {
    /// Counts one look-up.
    pub fn count(&self, result: CacheResult) {
        match result {
            CacheResult::Hit => &self.hit,
            CacheResult::Miss => &self.miss,
            CacheResult::Coalesced => &self.coalesced,
            CacheResult::Remembered => &self.remembered,
            CacheResult::Stale => &self.stale,
        }
        .inc();
    }

    /// Counts a key that was not there, for the cluster that asked for it.
    pub fn count_new_key(&self, cluster: &Arc<str>) {
        self.new_keys.count(cluster);
    }

    /// Says how many keys are being fetched.
    pub fn set_fetches(&self, fetches: usize) {
        self.fetches.set(u64::try_from(fetches).unwrap_or(u64::MAX));
    }

    /// Says how many keys there are.
    pub fn set_entries(&self, entries: u64) {
        self.entries.set(entries);
    }
}

impl EncodeLabelValue for CacheResult {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
            Self::Remembered => "remembered",
            Self::Stale => "stale",
        };
        name.encode(encoder)
    }
}

impl EncodeLabelValue for Call {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for WireFormat {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        };
        name.encode(encoder)
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = match self {
            Self::Issued => "issued",
            Self::NotModified => "not_modified",
            Self::Answered => "answered",
            Self::Cancelled => "cancelled",
            Self::Failed(reason) => reason.as_wire(),
        };
        name.encode(encoder)
    }
}
