//! How many second tries a host gets: few, so that its trouble is not made worse (guarantee U2).
//!
//! Ten per minute, or a tenth of the first tries, whichever is more. One that succeeds gives its place back: it has made
//! nothing worse, and after an outage everything that failed in it is a second try.

use std::time::Duration;

use tokio::time::Instant;

/// Second tries per minute that are always allowed.
const ALWAYS: u32 = 10;
/// One second try for so many first ones.
const FIRST_TRIES_PER_RETRY: u32 = 10;
/// Grain of the window.
const SLOT: Duration = Duration::from_secs(5);
/// A minute, and the slot that is being filled: the window of second tries is never shorter than a minute.
const SLOTS: usize = 13;

/// The tries of the last minute at one host.
#[derive(Debug)]
pub(super) struct RetryBudget {
    epoch: Instant,
    /// By number of slot since the epoch, modulo [`SLOTS`].
    slots: [Slot; SLOTS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    number: u64,
    first_tries: u32,
    retries: u32,
}

/// A second try that was admitted, in the slot of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent(u64);

impl RetryBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            slots: [Slot::default(); SLOTS],
        }
    }

    /// Whether a second try would be admitted.
    pub(super) fn has_room(&self, now: Instant) -> bool {
        let current = self.number(now);
        let recent = |slots: u64| {
            self.slots
                .iter()
                .filter(move |slot| current.saturating_sub(slot.number) < slots)
        };
        // First tries of less than a minute, second ones of more: so that the promise holds for every minute.
        let first_tries: u32 = recent(SLOTS as u64 - 1).map(|slot| slot.first_tries).sum();
        let retries: u32 = recent(SLOTS as u64).map(|slot| slot.retries).sum();
        retries < ALWAYS.max(first_tries / FIRST_TRIES_PER_RETRY)
    }

    /// Counts a first try.
    pub(super) fn count_first_try(&mut self, now: Instant) {
        if let Some(slot) = self.slot(self.number(now)) {
            slot.first_tries = slot.first_tries.saturating_add(1);
        }
    }

    /// Takes a place for a second try.
    pub(super) fn spend(&mut self, now: Instant) -> Option<Spent> {
        let number = self.number(now);
        if !self.has_room(now) {
            return None;
        }
        let slot = self.slot(number)?;
        slot.retries += 1;
        Some(Spent(number))
    }

    /// Gives it back.
    pub(super) fn give_back(&mut self, Spent(number): Spent) {
        let slot = self.slots.iter_mut().find(|slot| slot.number == number);
        if let Some(slot) = slot {
            slot.retries = slot.retries.saturating_sub(1);
        }
    }

    /// Slots are numbered from 1, so that an unused one is of no time.
    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs() / SLOT.as_secs() + SLOTS as u64
    }

    /// The slot of that number, emptied if it held another's counts.
    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let position = usize::try_from(number % SLOTS as u64).ok()?;
        let slot = self.slots.get_mut(position)?;
        if slot.number != number {
            *slot = Slot {
                number,
                ..Slot::default()
            };
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn u2_retries_without_first_tries_are_ten_a_minute() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(start);
        let admitted = (0..600_u32)
            .filter(|tenth| {
                budget
                    .spend(start + *tenth * Duration::from_millis(100))
                    .is_some()
            })
            .count();
        assert_eq!(admitted, 10);
        assert!(budget.spend(start + 2 * MINUTE).is_some());
    }

    #[test]
    fn u2_retry_that_succeeds_gives_its_place_back() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(start);
        for _ in 0..1000 {
            let spent = budget.spend(start).unwrap();
            budget.give_back(spent);
        }
        assert!(budget.has_room(start));
    }

    proptest! {
        #[test]
        fn u2_failed_retries_in_any_minute_are_ten_or_a_tenth(
            tries in prop::collection::vec((0_u64..3000, any::<bool>()), 1..400),
        ) {
            let start = Instant::now();
            let mut budget = RetryBudget::new(start);
            let (mut now, mut first, mut second) = (start, Vec::new(), Vec::new());
            for (gap, is_retry) in tries {
                now += Duration::from_millis(gap);
                if !is_retry {
                    budget.count_first_try(now);
                    first.push(now);
                } else if budget.spend(now).is_some() {
                    second.push(now);
                }
            }
            for end in &second {
                let in_window = |at: &&Instant| **at <= *end && **at + MINUTE > *end;
                let retries = second.iter().filter(in_window).count();
                let first_tries = first.iter().filter(in_window).count();
                prop_assert!(retries <= (first_tries / 10).max(10), "{retries} of {first_tries}");
            }
        }
    }
}
