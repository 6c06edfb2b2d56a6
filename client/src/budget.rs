//! How much may be asked twice. Pure: `now` is passed in.
//!
//! While Azure is slow, every miss is slow: a client that then asks a second replica for each call doubles the load on
//! brokers and on Azure when it hurts most. So attempts beyond the first are a small part of the calls, and never none,
//! so that a quiet client is not left alone with a silent replica.

use std::time::Duration;

use tokio::time::Instant;

/// Calls per extra attempt: 10 %.
const CALLS_PER_EXTRA: u32 = 10;
/// Extra attempts per window whatever the number of calls.
const FLOOR: u32 = 10;
/// The window, in slots of a second.
const SLOTS: usize = 60;
const SLOT: Duration = Duration::from_secs(1);

/// Calls and extra attempts of the last minute.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Second `n` since `start` lies in slot `n % SLOTS`.
    slots: [Slot; SLOTS],
    start: Option<Instant>,
    /// The last second that was counted.
    second: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    calls: u32,
    extras: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            slots: [Slot::default(); SLOTS],
            start: None,
            second: 0,
        }
    }
}

impl Budget {
    /// Counts a call.
    pub(crate) fn count_call(&mut self, now: Instant) {
        let slot = self.slot(now);
        slot.calls = slot.calls.saturating_add(1);
    }

    /// Takes an extra attempt out of the budget, if there is one.
    pub(crate) fn take_extra(&mut self, now: Instant) -> bool {
        self.slot(now);
        let (calls, extras) = self.slots.iter().fold((0_u32, 0_u32), |(calls, extras), slot| {
            (
                calls.saturating_add(slot.calls),
                extras.saturating_add(slot.extras),
            )
        });
        let is_allowed = extras < FLOOR.max(calls / CALLS_PER_EXTRA);
        if is_allowed {
            self.slot(now).extras += 1;
        }
        is_allowed
    }

    /// The slot of `now`, after those that have left the window were emptied.
    fn slot(&mut self, now: Instant) -> &mut Slot {
        let start = *self.start.get_or_insert(now);
        // Callers race for the lock, so a time may be a little behind the one before: it counts as that one.
        let second = now.saturating_duration_since(start).as_secs() / SLOT.as_secs();
        let second = second.max(self.second);
        for passed in (self.second + 1..=second).rev().take(SLOTS) {
            *self.at(passed) = Slot::default();
        }
        self.second = second;
        self.at(second)
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "the index is a remainder of the length"
    )]
    fn at(&mut self, second: u64) -> &mut Slot {
        &mut self.slots[(second % SLOTS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(start: Instant, second: u64) -> Instant {
        start + Duration::from_secs(second)
    }

    #[test]
    fn budget_of_a_quiet_client_is_the_floor_and_comes_back_after_a_minute() {
        let start = Instant::now();
        let mut budget = Budget::default();
        budget.count_call(start);
        let taken = (0..20).filter(|_| budget.take_extra(second(start, 5))).count();
        assert_eq!(taken, 10);
        assert!(!budget.take_extra(second(start, 64)));
        assert!(budget.take_extra(second(start, 65)));
    }

    #[test]
    fn budget_of_a_busy_client_is_a_tenth_of_its_calls() {
        let start = Instant::now();
        let mut budget = Budget::default();
        for call in 0..1_000 {
            budget.count_call(second(start, call / 20));
        }
        let taken = (0..1_000)
            .filter(|_| budget.take_extra(second(start, 50)))
            .count();
        assert_eq!(taken, 100);
    }

    proptest! {
        /// Against the definition: at each extra attempt, those of the last 60 s are at most max(10, calls / 10).
        #[test]
        fn budget_never_exceeds_its_definition(
            steps in prop::collection::vec((0_u64..40, any::<bool>()), 1..600),
        ) {
            let start = Instant::now();
            let mut budget = Budget::default();
            let (mut at, mut calls, mut extras) = (0_u64, Vec::<u64>::new(), Vec::<u64>::new());
            for (wait, is_call) in steps {
                // Mostly many steps within a second, now and then a long silence.
                at += if wait == 39 { 75 } else { wait / 30 };
                let recent = |times: &[u64]| times.iter().filter(|time| **time + 60 > at).count();
                if is_call {
                    budget.count_call(second(start, at));
                    calls.push(at);
                } else {
                    let is_due = recent(&extras) < (recent(&calls) / 10).max(10);
                    prop_assert_eq!(budget.take_extra(second(start, at)), is_due);
                    if is_due {
                        extras.push(at);
                    }
                }
            }
        }
    }
}
