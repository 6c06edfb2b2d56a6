//! The time by which it is decided what is due for a binding: the time of day, unless that was set back. Pure.
//!
//! What is remembered has a moment by both clocks. By the monotonic one a credential grows old whatever becomes of the
//! time of day, so that it is renewed, and a failed attempt repeated, when the first of the two says so.
//!
//! Of a clock that was set back nobody knows whether it was right before or is now. The broker does: the next refresh
//! that it names lies ahead. While that is ahead of the time here, this time is kept. Once it is not, the clock ran ahead
//! and was put right, and what is written counts from the time of day again.
//!
//! The monotonic clock stands still while the machine sleeps; then the time of day is the one that is ahead.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use proto::Fingerprint;
use runtime::Moment;

use crate::{pull_secret::Credential, schedule};

/// What a binding's time is measured from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Steady {
    credential: Option<(Held, Anchor)>,
    failure: Option<Anchor>,
}

/// Tells one credential from another.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    fingerprint: Fingerprint,
    expires_at: Timestamp,
    refresh_at: Timestamp,
}

/// Something that happened, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Anchor {
    at: Timestamp,
    monotonic: Duration,
}

/// The time of day at a moment.
pub fn time_of_day(moment: Moment) -> Timestamp {
    // The clock of a machine is well within the years 1 to 9999.
    Timestamp::try_from(moment.wall).unwrap_or_default()
}

impl Steady {
    /// The time at `moment`.
    pub fn now(&self, moment: Moment) -> Timestamp {
        let credential = self.credential.as_ref().map(|(_held, anchor)| anchor);
        let anchors = credential.into_iter().chain(&self.failure);
        anchors
            .map(|anchor| anchor.projected(moment.monotonic))
            .fold(time_of_day(moment), Timestamp::max)
    }

    /// A credential was found in the Secret. One that is known grows older.
    pub fn saw(&mut self, credential: Option<&Credential>, moment: Moment) {
        let held = credential.map(Held::of);
        let known = self.credential.as_ref().map(|(held, _anchor)| held);
        if known != held.as_ref() {
            let anchor = Anchor {
                at: time_of_day(moment),
                monotonic: moment.monotonic,
            };
            self.credential = held.map(|held| (held, anchor));
        }
    }

    /// A credential was written as the broker just answered.
    pub fn wrote(&mut self, credential: Option<&Credential>, moment: Moment) {
        let now = self.now(moment);
        *self = Self::default();
        self.credential = credential.map(|credential| {
            let at = if credential.refresh_at > now {
                now
            } else {
                time_of_day(moment)
            };
            let monotonic = moment.monotonic;
            (Held::of(credential), Anchor { at, monotonic })
        });
    }

    /// An attempt failed.
    pub fn failed(&mut self, moment: Moment) {
        self.failure = Some(Anchor {
            at: self.now(moment),
            monotonic: moment.monotonic,
        });
    }
}

impl Held {
    fn of(credential: &Credential) -> Self {
        Self {
            fingerprint: credential.fingerprint,
            expires_at: credential.expires_at,
            refresh_at: credential.refresh_at,
        }
    }
}

impl Anchor {
    fn projected(&self, monotonic: Duration) -> Timestamp {
        schedule::later(self.at, monotonic.saturating_sub(self.monotonic))
    }
}

#[cfg(test)]
mod tests;
