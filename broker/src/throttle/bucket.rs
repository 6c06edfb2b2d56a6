//! A token bucket, kept as one number: when it will be full again. Without a lock, because every request takes from one.
//!
//! A token that is put back counts only as far as the bucket has not refilled it meanwhile: what it gives away for good is
//! never more than burst and rate.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::config::Rate;

const SECOND_NS: u64 = 1_000_000_000;

/// Allows a burst, then so many per second. The rate is the configuration's of the moment, and no part of it.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// In nanoseconds of the throttle's own time, which starts at zero with every bucket full.
    full_at_ns: AtomicU64,
    /// By how much tokens that were put back have brought that forward so far.
    put_back_ns: AtomicU64,
}

/// A token that was taken, for who may have to put it back. In nanoseconds, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// When the bucket will have refilled it, as far as nothing is put back before.
    refilled_at: u64,
    interval: u64,
    /// What had been put back when it was taken.
    put_back: u64,
}

impl Bucket {
    /// Takes a token, if one is there.
    pub(super) fn take(&self, rate: Rate, now: Duration) -> Option<Taken> {
        let (now, interval) = (nanos(now), interval(rate));
        let slack = interval * u64::from(rate.burst.saturating_sub(1));
        // Read first, and written last below: what is put back at the same time may count as later, and then against it.
        let put_back = self.put_back_ns.load(Ordering::Acquire);
        let full_at = self
            .full_at_ns
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
                let full_at = full_at.max(now);
                (full_at - now <= slack).then_some(full_at + interval)
            })
            .ok()?;
        Some(Taken {
            refilled_at: full_at.max(now) + interval,
            interval,
            put_back,
        })
    }

    /// Puts a token back, as far as it is still missing: one that the bucket has refilled, others may have taken again.
    pub(super) fn give_back(&self, taken: Taken, now: Duration) {
        let put_back_since = self
            .put_back_ns
            .load(Ordering::Acquire)
            .saturating_sub(taken.put_back);
        let missing = taken
            .refilled_at
            .saturating_sub(put_back_since)
            .saturating_sub(nanos(now))
            .min(taken.interval);
        self.full_at_ns.fetch_sub(missing, Ordering::AcqRel);
        self.put_back_ns.fetch_add(missing, Ordering::Release);
    }

    /// Whether there is nothing to remember of it.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        self.full_at_ns.load(Ordering::Relaxed) <= nanos(now)
    }
}

/// At most a second.
fn interval(rate: Rate) -> u64 {
    SECOND_NS / u64::from(rate.requests_per_second.max(1))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    proptest! {
        #[test]
        fn u6_bucket_never_gives_more_than_burst_and_rate_in_any_window(
            burst in 1_u32..20,
            requests_per_second in 1_u32..50,
            gaps in prop::collection::vec(0_u32..300, 1..300),
        ) {
            let rate = Rate { requests_per_second, burst };
            let bucket = Bucket::default();
            let mut now = Duration::ZERO;
            let mut taken = Vec::new();
            for gap in gaps {
                now += MS * gap;
                if bucket.take(rate, now).is_some() {
                    taken.push(now);
                }
            }
            for (position, first) in taken.iter().enumerate() {
                for (count, last) in (0_u32..).zip(taken.iter().skip(position)) {
                    let window = last.saturating_sub(*first).as_secs_f64();
                    let most = f64::from(burst) + window * f64::from(requests_per_second);
                    prop_assert!(f64::from(count) <= most, "{count} more in {window} s");
                }
            }
        }

        #[test]
        fn u6_bucket_keeps_its_bound_whatever_is_put_back_and_when(
            burst in 1_u32..20,
            requests_per_second in 1_u32..50,
            // Each asks some time after the one before, and may put back one that it still has of those before.
            steps in prop::collection::vec((0_u32..300, prop::option::weighted(0.5, 0_usize..300)), 1..300),
        ) {
            let rate = Rate { requests_per_second, burst };
            let bucket = Bucket::default();
            let mut now = Duration::ZERO;
            let mut kept = Vec::new();
            for (gap, put_back) in steps {
                // Half of them at one moment, so that the bucket runs empty.
                now += MS * gap.saturating_sub(150);
                if let Some(position) = put_back && position < kept.len() {
                    let (_at, taken) = kept.remove(position);
                    bucket.give_back(taken, now);
                }
                kept.extend(bucket.take(rate, now).map(|taken| (now, taken)));
            }
            for (position, (first, _)) in kept.iter().enumerate() {
                for (count, (last, _)) in (0_u32..).zip(kept.iter().skip(position)) {
                    let window = last.saturating_sub(*first).as_secs_f64();
                    let most = f64::from(burst) + window * f64::from(requests_per_second);
                    prop_assert!(f64::from(count) <= most, "{count} more in {window} s");
                }
            }
        }
    }

    #[test]
    fn bucket_fills_up_again_and_is_then_forgotten() {
        let rate = Rate {
            requests_per_second: 10,
            burst: 3,
        };
        let bucket = Bucket::default();
        let taken = |at: Duration| (0..10).filter_map(|_turn| bucket.take(rate, at)).count();
        assert_eq!(taken(1000 * MS), 3);
        assert!(!bucket.is_full(1299 * MS) && bucket.is_full(1300 * MS));
        assert_eq!((taken(1099 * MS), taken(1100 * MS), taken(1300 * MS)), (0, 1, 2));
        assert_eq!(taken(9000 * MS), 3);
    }

    #[test]
    fn bucket_that_gets_a_token_back_gives_it_again() {
        let rate = Rate {
            requests_per_second: 1,
            burst: 2,
        };
        let bucket = Bucket::default();
        let at = Duration::from_secs(60);
        let [first, _second] = [(); 2].map(|()| bucket.take(rate, at).unwrap());
        assert_eq!(bucket.take(rate, at), None);
        bucket.give_back(first, at);
        assert!(bucket.take(rate, at).is_some() && bucket.take(rate, at).is_none());
    }

    #[test]
    fn u6_bucket_that_has_refilled_a_token_does_not_get_it_back_as_well() {
        let rate = Rate {
            requests_per_second: 1,
            burst: 20,
        };
        let bucket = Bucket::default();
        let take_all = |at| {
            (0..100)
                .filter_map(|_turn| bucket.take(rate, at))
                .collect::<Vec<_>>()
        };
        let early = take_all(Duration::from_secs(60));
        let late = Duration::from_secs(90);
        assert_eq!((early.len(), take_all(late).len()), (20, 20));
        for taken in early {
            bucket.give_back(taken, late);
        }
        assert_eq!(bucket.take(rate, late), None);
    }

    #[test]
    fn bucket_goes_by_a_changed_rate_at_once() {
        let of = |requests_per_second, burst| Rate {
            requests_per_second,
            burst,
        };
        let bucket = Bucket::default();
        let at = Duration::from_secs(60);
        assert!(bucket.take(of(1, 1), at).is_some() && bucket.take(of(1, 1), at).is_none());
        assert!(bucket.take(of(1000, 5000), at).is_some());
    }
}
