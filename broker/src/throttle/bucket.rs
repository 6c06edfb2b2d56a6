//! A token bucket, kept as one number: when it will be full again. Without a lock, because every request takes from one.

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
}

impl Bucket {
    /// Takes a token, if one is there.
    pub(super) fn take(&self, rate: Rate, now: Duration) -> bool {
        let (now, interval) = (nanos(now), interval(rate));
        let slack = interval * u64::from(rate.burst.saturating_sub(1));
        self.full_at_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let full_at = full_at.max(now);
                (full_at - now <= slack).then_some(full_at + interval)
            })
            .is_ok()
    }

    /// Puts a token back that has been taken.
    pub(super) fn give_back(&self, rate: Rate) {
        self.full_at_ns.fetch_sub(interval(rate), Ordering::Relaxed);
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
                if bucket.take(rate, now) {
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
    }

    #[test]
    fn bucket_fills_up_again_and_is_then_forgotten() {
        let rate = Rate {
            requests_per_second: 10,
            burst: 3,
        };
        let bucket = Bucket::default();
        let taken = |at: Duration| (0..10).filter(|_turn| bucket.take(rate, at)).count();
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
        assert!(bucket.take(rate, at) && bucket.take(rate, at) && !bucket.take(rate, at));
        bucket.give_back(rate);
        assert!(bucket.take(rate, at) && !bucket.take(rate, at));
    }

    #[test]
    fn bucket_goes_by_a_changed_rate_at_once() {
        let of = |requests_per_second, burst| Rate {
            requests_per_second,
            burst,
        };
        let bucket = Bucket::default();
        let at = Duration::from_secs(60);
        assert!(bucket.take(of(1, 1), at) && !bucket.take(of(1, 1), at));
        assert!(bucket.take(of(1000, 5000), at));
    }
}
