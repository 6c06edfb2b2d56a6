//! The metric of the audit log.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Records by what became of them.
#[derive(Clone)]
pub struct AuditMetrics(Family<AuditLabels, Counter>);

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditOutcome {
    /// It is where it belongs.
    Written,
    /// It is missing: the log was blocked, and the call went on.
    Lost,
    /// It was not written in time, and the call was refused.
    Unconfirmed,
    /// One of too many refusals of strangers or of one cluster's callers, which are summed up.
    Suppressed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuditLabels {
    outcome: AuditOutcome,
}

impl AuditMetrics {
    /// Registers it, with every outcome at zero: an alert on what never happened would see nothing.
    pub fn register(registry: &mut Registry) -> Self {
        let records = Family::default();
        for outcome in [
            AuditOutcome::Written,
            AuditOutcome::Lost,
            AuditOutcome::Unconfirmed,
            AuditOutcome::Suppressed,
        ] {
            records.get_or_create_owned(&AuditLabels { outcome });
        }
        registry.register(
            "acrpull_broker_audit_records",
            "Records of the audit log by what became of them",
            records.clone(),
        );
        Self(records)
    }

    /// Counts records.
    pub fn count(&self, outcome: AuditOutcome, records: u64) {
        self.0.get_or_create(&AuditLabels { outcome }).inc_by(records);
    }
}

impl EncodeLabelValue for AuditOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = match self {
            Self::Written => "written",
            Self::Lost => "lost",
            Self::Unconfirmed => "unconfirmed",
            Self::Suppressed => "suppressed",
        };
        name.encode(encoder)
    }
}
