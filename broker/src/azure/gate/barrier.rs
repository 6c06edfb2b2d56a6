//! Closed to all until an instant; then open for one, whose fate decides for the rest.

use std::time::Duration;

use tokio::time::Instant;

/// How long those who come while the one is out are told to wait: about as long as it takes.
const TRIAL: Duration = Duration::from_secs(1);

/// A way that is closed for a time.
#[derive(Debug, Clone)]
pub(super) struct Barrier {
    until: Instant,
    is_tried: bool,
}

impl Barrier {
    pub(super) fn until(until: Instant) -> Self {
        Self {
            until,
            is_tried: false,
        }
    }

    /// When it ends, or has ended.
    pub(super) fn ends_at(&self) -> Instant {
        self.until
    }

    /// How long the way is closed; none if whoever asks may be the one to try.
    pub(super) fn closed_for(&self, now: Instant) -> Option<Duration> {
        let remaining = self.until.saturating_duration_since(now);
        if !remaining.is_zero() {
            return Some(remaining);
        }
        self.is_tried.then_some(TRIAL)
    }

    /// Sends the one.
    pub(super) fn start_trial(&mut self) {
        self.is_tried = true;
    }

    /// The one came back without a verdict, or not at all: the next may try.
    pub(super) fn end_trial(&mut self) {
        self.is_tried = false;
    }

    /// Closed for longer; the later end wins.
    pub(super) fn extend(&mut self, until: Instant) {
        self.until = self.until.max(until);
    }
}
