//! How one call ended: counted once, and logged here if it was refused or failed, wherever that was noticed.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use proto::Reason;

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

    /// The same for somebody whom the broker does not know, or who asks too often. Below the level of other refusals: nobody
    /// must be able to fill the log. Metrics count it, and the answer says why.
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
        if error.reason == Reason::CallerThrottled {
            return self.turn_away(error);
        }
        self.settle(Outcome::Failed(error.reason));
        tracing::warn!(
            call = self.0.call.as_str(),
            reason = error.reason.as_str(),
            azure.request_id = error.azure_request_id,
            retry_after_s = error.retry_after.map(|wait| wait.as_secs()),
            "refused or failed: {error}"
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
