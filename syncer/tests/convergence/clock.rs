//! The clocks of the machine that the syncer runs on, and the right time, by which Azure goes. The time of day can be wrong,
//! and the monotonic clock stands still while the machine sleeps.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use runtime::Moment;
use syncer::schedule::later;

#[derive(Debug, Default)]
pub(crate) struct Clock {
    monotonic: Duration,
    slept: Duration,
    /// How far the time of day is ahead of the right time.
    error: SignedDuration,
}

/// When every case begins.
pub(crate) fn start() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

impl Clock {
    pub(crate) fn monotonic(&self) -> Duration {
        self.monotonic
    }

    /// The right time.
    pub(crate) fn right(&self) -> Timestamp {
        later(start(), self.monotonic + self.slept)
    }

    /// What the machine tells.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            wall: self.right().saturating_add(self.error).unwrap().into(),
            monotonic: self.monotonic,
        }
    }

    pub(crate) fn advance_to(&mut self, monotonic: Duration) {
        self.monotonic = self.monotonic.max(monotonic);
    }

    pub(crate) fn sleep(&mut self, time: Duration) {
        self.slept += time;
    }

    /// Somebody sets the time of day, so far ahead of the right one.
    pub(crate) fn set(&mut self, error: SignedDuration) {
        self.error = error;
    }
}
