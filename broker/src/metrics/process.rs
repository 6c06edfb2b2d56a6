//! Metrics of the process itself: its connections, its certificate, and the configuration that it runs with.

use std::{
    sync::atomic::AtomicU64,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// The metrics of the main listener.
#[derive(Clone)]
pub struct ConnectionMetrics {
    open: Gauge<u64, AtomicU64>,
    closed: Family<ClosedLabels, Counter>,
    strangers_refused: Counter,
    tls_failures: Family<TlsFailureLabels, Counter>,
}

/// Why the broker, and not its peer, ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Closed {
    /// There were too many, and all others had been admitted.
    Full,
    /// There were too many, and nobody had been admitted over this one.
    MadeRoom,
    /// There were too many, and its cluster had more than its share.
    OverShare,
    /// It asked on and on, and nobody was admitted over it.
    Stranger,
    /// It asked for nothing.
    Silent,
    /// It had its time: its caller finds a replica anew.
    Old,
    /// The process ends.
    Drained,
}

/// Why a TLS handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsFailure {
    /// It took too long.
    Timeout,
    /// The peer went away, as a port scan and a TCP probe do.
    Closed,
    /// The peer refused us: our certificate does not suit it.
    Alert,
    /// What the peer sent is not TLS.
    Protocol,
    /// The peer and we have no version, or nothing else that it takes, in common.
    Incompatible,
    /// The peer has no certificate, where one is required.
    NoClientCertificate,
    /// The peer's certificate is not accepted.
    ClientCertificate,
}

/// The metric of the certificate that is served.
#[derive(Clone, Default)]
pub struct CertificateMetrics {
    not_after: Gauge<u64, AtomicU64>,
}

/// The metrics of the configuration, named as Prometheus names its own.
#[derive(Clone)]
pub struct ConfigMetrics {
    reloads: Family<ReloadLabels, Counter>,
    is_last_successful: Gauge<u64, AtomicU64>,
    last_success_at: Gauge<u64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClosedLabels {
    reason: Closed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TlsFailureLabels {
    reason: TlsFailure,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    outcome: &'static str,
}

impl ConnectionMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            open: Gauge::default(),
            closed: Family::default(),
            strangers_refused: Counter::default(),
            tls_failures: Family::default(),
        };
        registry.register(
            "acrpull_broker_connections",
            "Open connections of the main listener",
            metrics.open.clone(),
        );
        registry.register(
            "acrpull_broker_connections_closed",
            "Connections that the broker ended, by reason",
            metrics.closed.clone(),
        );
        registry.register(
            "acrpull_broker_stranger_requests_refused",
            "Requests refused because too much is open on their connection, over which nobody has been admitted",
            metrics.strangers_refused.clone(),
        );
        registry.register(
            "acrpull_broker_tls_handshake_failures",
            "TLS handshakes that failed, by reason",
            metrics.tls_failures.clone(),
        );
        metrics
    }

    /// Says how many are open.
    pub fn set_open(&self, open: usize) {
        self.open.set(open as u64);
    }

    /// Counts a connection that the broker ended.
    pub fn count_closed(&self, reason: Closed) {
        self.closed.get_or_create(&ClosedLabels { reason }).inc();
    }

    /// Counts a request of a stranger that was refused, or whose answer was cut down to its headers.
    pub fn count_stranger_refused(&self) {
        self.strangers_refused.inc();
    }

    /// Counts a handshake that failed.
    pub fn count_tls_failure(&self, reason: TlsFailure) {
        self.tls_failures
            .get_or_create(&TlsFailureLabels { reason })
            .inc();
    }
}

impl CertificateMetrics {
    /// Registers it.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "acrpull_broker_tls_certificate_not_after",
            "When the certificate of the main listener expires, in Unix time",
            Unit::Seconds,
            self.not_after.clone(),
        );
    }

    /// Says when it expires; one that does not say is as good as expired.
    pub fn set_not_after(&self, not_after: Option<SystemTime>) {
        let since_epoch = not_after.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        self.not_after.set(since_epoch.unwrap_or_default().as_secs());
    }
}

impl ConfigMetrics {
    /// Registers them, with the configuration that was loaded at the start.
    pub fn register(registry: &mut Registry, loaded_at: SystemTime) -> Self {
        let metrics = Self {
            reloads: Family::default(),
            is_last_successful: Gauge::default(),
            last_success_at: Gauge::default(),
        };
        registry.register(
            "acrpull_broker_config_reloads",
            "Changed configurations by outcome (success, failure)",
            metrics.reloads.clone(),
        );
        registry.register(
            "acrpull_broker_config_last_reload_successful",
            "Whether the configuration on disk is the one that is in use",
            metrics.is_last_successful.clone(),
        );
        registry.register_with_unit(
            "acrpull_broker_config_last_reload_success_timestamp",
            "When the configuration in use was loaded",
            Unit::Seconds,
            metrics.last_success_at.clone(),
        );
        metrics.set_loaded(loaded_at);
        metrics
    }

    /// Counts a configuration that was taken into use.
    pub fn count_success(&self, now: SystemTime) {
        self.reloads
            .get_or_create(&ReloadLabels { outcome: "success" })
            .inc();
        self.set_loaded(now);
    }

    /// Counts a configuration that was refused.
    pub fn count_failure(&self) {
        self.reloads
            .get_or_create(&ReloadLabels { outcome: "failure" })
            .inc();
        self.is_last_successful.set(0);
    }

    fn set_loaded(&self, at: SystemTime) {
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_success_at.set(since_epoch.as_secs());
        self.is_last_successful.set(1);
    }
}

impl EncodeLabelValue for Closed {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = match self {
            Self::Full => "full",
            Self::MadeRoom => "made_room",
            Self::OverShare => "over_share",
            Self::Stranger => "stranger",
            Self::Silent => "silent",
            Self::Old => "old",
            Self::Drained => "drained",
        };
        name.encode(encoder)
    }
}

impl EncodeLabelValue for TlsFailure {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Alert => "alert",
            Self::Protocol => "protocol",
            Self::Incompatible => "incompatible",
            Self::NoClientCertificate => "no_client_certificate",
            Self::ClientCertificate => "client_certificate",
        };
        name.encode(encoder)
    }
}
