//! A token bucket, kept as one instant: when it will be full again. Exact, and nothing to refill.

use std::time::Duration;

use tokio::time::Instant;

/// Allows a burst, then one call per interval.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    interval: Duration,
    /// How far in the future the full bucket may lie for a token to be there.
    slack: Duration,
    full_at: Option<Instant>,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(burst: u32, interval: Duration) -> Self {
        Self {
            interval,
            slack: interval * burst.saturating_sub(1),
            full_at: None,
        }
    }

    /// How long until a token is there; zero if one is.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.until_full(now).saturating_sub(self.slack)
    }

    /// Whether so many tokens are there.
    pub(super) fn has(&self, tokens: u32, now: Instant) -> bool {
        self.until_full(now) + self.interval * tokens.saturating_sub(1) <= self.slack
    }

    fn until_full(&self, now: Instant) -> Duration {
        self.full_at
            .map(|at| at.saturating_duration_since(now))
            .unwrap_or_default()
    }

    /// Takes a token. The caller has made sure that one is there; otherwise the next ones come later.
    pub(super) fn take(&mut self, now: Instant) {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        self.full_at = Some(full_at + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bucket_never_gives_more_than_burst_and_rate_in_any_window(
            burst in 1_u32..8,
            gaps in prop::collection::vec(0_u64..400, 1..200),
        ) {
            let interval = Duration::from_millis(200);
            let mut bucket = Bucket::new(burst, interval);
            let mut now = Instant::now();
            let mut starts = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if bucket.wait(now).is_zero() {
                    bucket.take(now);
                    starts.push(now);
                }
            }
            for (position, start) in starts.iter().enumerate() {
                let within = starts.iter().skip(position).filter(|at| **at <= *start + Duration::from_secs(1));
                prop_assert!(within.count() <= burst as usize + 5);
            }
        }

        #[test]
        fn bucket_has_a_token_when_it_said(taken in 1_u32..50) {
            let mut bucket = Bucket::new(3, Duration::from_millis(100));
            let now = Instant::now();
            for _ in 0..taken {
                bucket.take(now);
            }
            let wait = bucket.wait(now);
            prop_assert_eq!(wait, Duration::from_millis(100) * taken.saturating_sub(2));
            prop_assert!(bucket.wait(now + wait).is_zero());
            let left = 3_u32.saturating_sub(taken);
            prop_assert!(!bucket.has(left + 1, now) && (left == 0 || bucket.has(left, now)));
        }
    }
}
