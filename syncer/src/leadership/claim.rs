//! What to do about the Lease. Pure: what was read, what was written and the monotonic time are passed in.
//!
//! The rules that keep two processes from writing at the same time, whatever their clocks say and however long a
//! process is held up, as long as their clocks run at about the same rate:
//!
//! - A leader counts its time from **before** it sent the last write of the Lease that was confirmed to it, and stops
//!   after the renew deadline.
//! - A candidate counts from **after** it first read the present version of the Lease, and takes it after the lease
//!   duration, which is longer.
//! - Every write names the version that it was decided on; the API server refuses it on any other.
//!
//! No time of day is compared: that in the Lease is for people.

use std::time::Duration;

/// The jitter of pauses, as a share of the retry period.
const JITTER: f64 = 0.2;

/// The times of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a version of the Lease that nobody changes is respected.
    pub lease: Duration,
    /// How long the leader goes on without having renewed it. Shorter.
    pub renew_deadline: Duration,
    /// Between two looks at it. Much shorter.
    pub retry: Duration,
}

/// The Lease as it is at the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The `resourceVersion`.
    pub(super) version: String,
    /// Who holds it; nobody after it was released.
    pub(super) holder: Option<String>,
    /// How long its holder wants it to be respected.
    pub(super) lease: Option<Duration>,
    /// How often its holder changed.
    pub(super) transitions: i32,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Move {
    /// Read the Lease.
    Read,
    /// Create it, held by this process.
    Create,
    /// Make this process its holder.
    Take {
        /// Only this version.
        version: String,
        /// How often the holder will have changed then.
        transitions: i32,
    },
    /// Renew it.
    Renew {
        /// Only this version.
        version: String,
    },
    /// Another process holds it.
    Wait,
    /// It was ours, and is, or may soon be, another's.
    Lost,
}

/// This process's claim to the Lease.
#[derive(Debug)]
pub(super) struct Claim {
    identity: String,
    timing: Timing,
    known: Known,
    /// When the last write was sent that the API server confirmed.
    confirmed: Option<Duration>,
}

/// What is known of the Lease.
#[derive(Debug)]
enum Known {
    /// Nothing that a write could be decided on. If a version was seen before: which, and since when.
    Nothing { seen: Option<(String, Duration)> },
    /// There is none.
    Absent,
    /// This, and since when it has not changed.
    Record { record: Record, since: Duration },
}

impl Timing {
    /// The pause before the next look; `draw` is a number in [0, 1).
    pub(super) fn pause(&self, draw: f64) -> Duration {
        self.retry.mul_f64(1.0 + JITTER * draw)
    }

    /// The longest of them.
    pub(crate) fn longest_pause(&self) -> Duration {
        self.pause(1.0)
    }

    /// How long a call may take, so that a leader whose call hangs has another try.
    pub(super) fn call(&self) -> Duration {
        self.renew_deadline / 2
    }
}

impl Claim {
    /// `identity` is no other process's, ever.
    pub(super) fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            known: Known::Nothing { seen: None },
            confirmed: None,
        }
    }

    /// The name of this process in the Lease.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Decides.
    pub(super) fn next(&self, now: Duration) -> Move {
        if self.until().is_some_and(|until| now >= until) {
            return Move::Lost;
        }
        let (record, since) = match &self.known {
            Known::Nothing { .. } => return Move::Read,
            Known::Absent => return Move::Create,
            Known::Record { record, since } => (record, *since),
        };
        let version = record.version.clone();
        match record.holder.as_deref() {
            // Also when this process does not know that it is: the answer to its write was lost.
            Some(holder) if holder == self.identity => Move::Renew { version },
            Some(_other) if self.confirmed.is_some() => Move::Lost,
            Some(_other) if now < since + record.lease.unwrap_or(self.timing.lease) => Move::Wait,
            Some(_) | None => Move::Take {
                version,
                transitions: record.transitions.saturating_add(1),
            },
        }
    }

    /// The Lease was read; the answer came at `now`.
    pub(super) fn saw(&mut self, record: Option<Record>, now: Duration) {
        self.known = match record {
            None => Known::Absent,
            Some(record) => {
                let since = self.seen_since(&record.version).unwrap_or(now);
                Known::Record { record, since }
            }
        };
    }

    /// A write, sent at `sent`, made the Lease this.
    pub(super) fn wrote(&mut self, record: Record, sent: Duration) {
        self.known = Known::Record { record, since: sent };
        self.confirmed = Some(sent);
    }

    /// What is known of the Lease may be outdated: it is to be read before anything is decided.
    pub(super) fn doubt(&mut self) {
        let seen = match &self.known {
            Known::Nothing { seen } => seen.clone(),
            Known::Absent => None,
            Known::Record { record, since } => Some((record.version.clone(), *since)),
        };
        self.known = Known::Nothing { seen };
    }

    /// Until when this process may write; none if it may not.
    pub(super) fn until(&self) -> Option<Duration> {
        self.confirmed.map(|sent| sent + self.timing.renew_deadline)
    }

    /// Who holds the Lease, as far as that is known.
    pub(super) fn holder(&self) -> Option<&str> {
        match &self.known {
            Known::Record { record, .. } => record.holder.as_deref(),
            Known::Nothing { .. } | Known::Absent => None,
        }
    }

    fn seen_since(&self, version: &str) -> Option<Duration> {
        match &self.known {
            Known::Nothing {
                seen: Some((seen, since)),
            } if seen == version => Some(*since),
            Known::Record { record, since } if record.version == version => Some(*since),
            Known::Nothing { .. } | Known::Absent | Known::Record { .. } => None,
        }
    }
}

#[cfg(test)]
mod schedules;
#[cfg(test)]
mod tests;
