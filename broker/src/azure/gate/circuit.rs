//! Whether a host is worth a call at all. Opens when calls fail in a row, then lets one through at growing intervals.
//!
//! Only failures of the transport, 5xx and timeouts count: a host that says no is alive.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::barrier::Barrier;
use crate::azure::upstream::UpstreamError;

/// Failed calls in a row that open it. Few, because each may hold a place for 15 s. A connection that breaks may fail as
/// many at once; that costs the second until the first trial.
const FAILURES: u32 = 5;
/// Shortest and longest time that it stays open.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A host that nobody has tried for so long after it might have been is one that nobody wants any more. Whoever wants it
/// after all still goes first and alone.
const ABANDONED_AFTER: Duration = Duration::from_secs(2 * LONGEST.as_secs());

/// The circuit of one host.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    failures: u32,
    openings: u32,
    barrier: Option<Barrier>,
    last: Option<Arc<UpstreamError>>,
}

/// It is open: no call now.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) wait: Duration,
    /// Why the last call failed.
    pub(super) last: Arc<UpstreamError>,
}

impl Circuit {
    /// Whether callers are kept from the host, and there are any.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.barrier
            .as_ref()
            .is_some_and(|barrier| now < barrier.ends_at() + ABANDONED_AFTER)
    }

    /// Whether a call may be made, and whether it is the one that tries.
    pub(super) fn check(&self, now: Instant) -> Result<bool, Open> {
        let (Some(barrier), Some(last)) = (&self.barrier, &self.last) else {
            return Ok(false);
        };
        match barrier.closed_for(now) {
            None => Ok(true),
            Some(wait) => Err(Open {
                wait,
                last: Arc::clone(last),
            }),
        }
    }

    pub(super) fn start_trial(&mut self) {
        if let Some(barrier) = &mut self.barrier {
            barrier.start_trial();
        }
    }

    pub(super) fn end_trial(&mut self) {
        if let Some(barrier) = &mut self.barrier {
            barrier.end_trial();
        }
    }

    /// A call got an answer. While it is open only the one that tries counts; the others started before.
    pub(super) fn succeeded(&mut self, is_trial: bool) {
        if self.barrier.is_none() || is_trial {
            *self = Self::default();
        }
    }

    /// A call failed; true if the circuit opens by that. `chance` in [0, 1) spreads the trials of replicas.
    pub(super) fn failed(
        &mut self,
        is_trial: bool,
        error: Arc<UpstreamError>,
        now: Instant,
        chance: f64,
    ) -> bool {
        self.last = Some(error);
        self.failures = self.failures.saturating_add(1);
        let opens = match &self.barrier {
            None => self.failures >= FAILURES,
            Some(_) => is_trial,
        };
        if opens {
            self.openings = self.openings.saturating_add(1);
            let longest = SHORTEST.saturating_mul(2_u32.saturating_pow(self.openings.min(16)));
            let wait = longest.min(LONGEST).mul_f64(chance).max(SHORTEST);
            self.barrier = Some(Barrier::until(now + wait));
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::transport::{Stage, TransportError};

    fn error() -> Arc<UpstreamError> {
        Arc::new(UpstreamError::Transport(TransportError::Timeout(Stage::Headers)))
    }

    /// A circuit that has just opened.
    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES {
            circuit.failed(false, error(), now, 0.0);
        }
        circuit
    }

    #[test]
    fn circuit_opens_after_failures_in_a_row_only() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        for _ in 0..20 {
            for _ in 0..FAILURES - 1 {
                assert!(!circuit.failed(false, error(), now, 0.5));
            }
            circuit.succeeded(false);
        }
        assert!(!circuit.is_open(now));
        assert!(opened(now).is_open(now));
    }

    #[test]
    fn circuit_that_nobody_tries_any_more_is_not_open_and_still_lets_only_one_through() {
        let now = Instant::now();
        let mut circuit = opened(now);
        let abandoned = now + SHORTEST + ABANDONED_AFTER;
        assert!(circuit.is_open(abandoned - SHORTEST) && !circuit.is_open(abandoned));
        assert!(circuit.check(abandoned).unwrap());
        circuit.start_trial();
        circuit.check(abandoned).unwrap_err();
        assert!(circuit.failed(true, error(), abandoned, 0.0));
        assert!(circuit.is_open(abandoned));
    }

    #[test]
    fn u4_open_circuit_lets_exactly_one_through() {
        let now = Instant::now();
        let mut circuit = opened(now);
        assert_eq!(circuit.check(now).unwrap_err().wait, SHORTEST);
        assert_eq!(circuit.check(now).unwrap_err().last, error());
        let later = now + SHORTEST;
        assert!(circuit.check(later).unwrap());
        circuit.start_trial();
        circuit.check(later + LONGEST).unwrap_err();
        circuit.end_trial();
        assert!(circuit.check(later).unwrap(), "a trial that is lost is another's");
        circuit.succeeded(true);
        assert!(!circuit.check(later).unwrap());
    }

    #[test]
    fn circuit_stays_open_longer_with_each_failed_trial_up_to_a_minute() {
        let mut now = Instant::now();
        let mut circuit = opened(now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            now += LONGEST;
            circuit.start_trial();
            assert!(circuit.failed(true, error(), now, 1.0));
            waits.push(circuit.check(now).unwrap_err().wait.as_secs());
        }
        assert_eq!(waits, [4, 8, 16, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn circuit_that_is_open_ignores_calls_that_started_before() {
        let now = Instant::now();
        let mut circuit = opened(now);
        assert!(!circuit.failed(false, error(), now, 1.0));
        circuit.succeeded(false);
        assert_eq!(circuit.check(now).unwrap_err().wait, SHORTEST);
    }
}
