//! What could not be recorded: counted, and said in the log once a minute at most. Records are missing when the machine is
//! in trouble already; a line for each would add to it.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runtime::Clock;

use crate::metrics::{AuditMetrics, AuditOutcome};

const SAID_EVERY: Duration = Duration::from_secs(60);

/// Shared by the calls and the writer.
pub(super) struct Trouble {
    metrics: AuditMetrics,
    clock: Arc<dyn Clock>,
    /// Records that are missing and that the log itself does not tell of yet.
    untold: AtomicU64,
    said_at: Mutex<Option<Duration>>,
}

impl Trouble {
    pub(super) fn new(metrics: AuditMetrics, clock: Arc<dyn Clock>) -> Self {
        Self {
            metrics,
            clock,
            untold: AtomicU64::new(0),
            said_at: Mutex::new(None),
        }
    }

    /// A record is missing, and its call went on.
    pub(super) fn lost(&self) {
        self.metrics.count(AuditOutcome::Lost, 1);
        self.untold.fetch_add(1, Ordering::Relaxed);
        if self.may_speak() {
            tracing::error!("the audit log is blocked: records are lost; see docs/audit.md");
        }
    }

    /// A record was not confirmed in time, and its call is refused.
    pub(super) fn unconfirmed(&self) {
        self.metrics.count(AuditOutcome::Unconfirmed, 1);
        if self.may_speak() {
            tracing::error!("the audit log is blocked: calls are refused; see docs/audit.md");
        }
    }

    /// The writer cannot write.
    pub(super) fn failing(&self, error: &io::Error) {
        if self.may_speak() {
            tracing::error!(%error, "the audit log cannot be written; trying again");
        }
    }

    /// Records have been written.
    pub(super) fn written(&self, records: u64) {
        self.metrics.count(AuditOutcome::Written, records);
    }

    /// A record that a refusal did not get.
    pub(super) fn suppressed(&self) {
        self.metrics.count(AuditOutcome::Suppressed, 1);
    }

    /// How many are missing that the log does not tell of yet; the caller tells of them now.
    pub(super) fn take_untold(&self) -> u64 {
        if self.untold.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.untold.swap(0, Ordering::Relaxed)
    }

    /// It could not be told of them.
    pub(super) fn still_untold(&self, records: u64) {
        self.untold.fetch_add(records, Ordering::Relaxed);
    }

    fn may_speak(&self) -> bool {
        let now = self.clock.monotonic();
        let mut said_at = self.said_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said_at.is_none_or(|at| now.saturating_sub(at) >= SAID_EVERY);
        if is_due {
            *said_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use prometheus_client::registry::Registry;
    use runtime::clock::ManualClock;

    use super::*;

    #[test]
    fn o1_trouble_is_said_once_a_minute() {
        let clock = ManualClock::at(UNIX_EPOCH);
        let metrics = AuditMetrics::register(&mut Registry::default());
        let trouble = Trouble::new(metrics, Arc::new(clock.clone()));
        assert!(trouble.may_speak());
        assert!(!trouble.may_speak());
        clock.advance(SAID_EVERY);
        assert!(trouble.may_speak());
        trouble.lost();
        trouble.lost();
        assert_eq!((trouble.take_untold(), trouble.take_untold()), (2, 0));
    }
}
