//! How one call ended: counted once, and logged here if it was refused or failed, wherever that was noticed.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::{
    access::Call,
    error::CredentialError,
    metrics::{Metrics, Outcome, WireFormat},
};

/// The outcome of a call, shared by those that may settle it. The last one to let go counts it; a call that nobody has
/// settled by then was cancelled, because its caller went away.
#[derive(Clone)]
pub struct Record(Arc<Entry>);

struct Entry {
    metrics: Metrics,
    wire: WireFormat,
    call: Call,
    outcome: OnceLock<Outcome>,
    is_reported: AtomicBool,
    started_at: Instant,
}

impl Record {
    /// Starts the time.
    pub fn open(metrics: Metrics, wire: WireFormat, call: Call) -> Self {
        Self(Arc::new(Entry {
            metrics,
            wire,
            call,
            outcome: OnceLock::new(),
            is_reported: AtomicBool::new(false),
            started_at: Instant::now(),
        }))
    }

    /// Whether it is known how the call ended.
    pub fn is_settled(&self) -> bool {
        self.0.outcome.get().is_some()
    }

    /// Says how it ended. The first word counts.
    pub fn settle(&self, outcome: Outcome) {
        self.0.outcome.get_or_init(|| outcome);
    }

    /// The same for somebody whom the broker does not know. Below the level of other refusals: a stranger must not be
    /// able to fill the log. The metric counts it, and the answer says why.
    pub fn turn_away(&self, error: &CredentialError) {
        self.settle(Outcome::Failed(error.reason));
        tracing::debug!(
            call = self.0.call.as_str(),
            reason = error.reason.as_str(),
            "turned away: {error}"
        );
    }

    /// The same for a refusal or a failure of a caller's request, and the one place where it is logged. Who asked for what is in the fields
    /// of the span.
    pub fn fail(&self, error: &CredentialError) {
        self.settle(Outcome::Failed(error.reason));
        tracing::warn!(
            call = self.0.call.as_str(),
            reason = error.reason.as_str(),
            azure.request_id = error.azure_request_id,
            retry_after_s = error.retry_after.map(|wait| wait.as_secs()),
            "refused or failed: {error}"
        );
    }

    /// Notes that the call needs a grant, has none, and goes on all the same. Once for each call, however often the policy is
    /// asked on its way.
    pub fn report_missing_grant(&self, cluster: &Arc<str>) {
        if self.0.is_reported.swap(true, Ordering::Relaxed) {
            return;
        }
        self.0.metrics.policy().count_reported(cluster);
        tracing::warn!(
            call = self.0.call.as_str(),
            "no grant allows this, and it goes on: the grants of its cluster are only reported"
        );
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let outcome = self.outcome.get().copied().unwrap_or(Outcome::Cancelled);
        self.metrics.observe_request(
            self.call,
            self.wire,
            outcome,
            self.started_at.elapsed().as_secs_f64(),
        );
    }
}
