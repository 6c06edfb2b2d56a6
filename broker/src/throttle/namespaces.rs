//! The buckets of one cluster's namespaces. A syncer can invent namespaces, so there are so many buckets and no more; one
//! that is full again is forgotten without loss.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::bucket::Bucket;
use crate::config::Rate;

/// Namespaces of one cluster that are told apart: many more than have asked within milliseconds in any honest one. Each takes
/// some 130 bytes.
const TOLD_APART: usize = 4096;
/// Looking for those that can be forgotten costs some 100 µs: once in this time at most.
const SWEEP_PERIOD: Duration = Duration::from_millis(100);

/// The buckets by namespace.
#[derive(Default)]
pub(super) struct Namespaces(Mutex<Buckets>);

#[derive(Default)]
struct Buckets {
    by_name: HashMap<Box<str>, Bucket>,
    /// Shared by those for whom there is no place.
    others: Bucket,
    next_sweep_at: Duration,
}

impl Namespaces {
    /// Takes a token of `namespace`, if one is there.
    pub(super) fn take(&self, namespace: &str, rate: Rate, now: Duration) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.by_name.get(namespace) {
            return bucket.take(rate, now).is_some();
        }
        if !buckets.has_place(now) {
            return buckets.others.take(rate, now).is_some();
        }
        buckets
            .by_name
            .entry(namespace.into())
            .or_default()
            .take(rate, now)
            .is_some()
    }
}

impl Buckets {
    fn has_place(&mut self, now: Duration) -> bool {
        if self.by_name.len() >= TOLD_APART && now >= self.next_sweep_at {
            self.next_sweep_at = now + SWEEP_PERIOD;
            self.by_name.retain(|_name, bucket| !bucket.is_full(now));
        }
        self.by_name.len() < TOLD_APART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        requests_per_second: 1,
        burst: 2,
    };

    fn known(namespaces: &Namespaces) -> usize {
        namespaces.0.lock().unwrap().by_name.len()
    }

    #[test]
    fn u6_namespaces_have_buckets_of_their_own() {
        let namespaces = Namespaces::default();
        let at = Duration::from_secs(60);
        let taken = |name: &str| (0..5).filter(|_turn| namespaces.take(name, RATE, at)).count();
        assert_eq!((taken("noisy"), taken("quiet"), taken("noisy")), (2, 2, 0));
    }

    #[test]
    fn u6_invented_namespaces_are_bounded_and_get_one_bucket_together() {
        let namespaces = Namespaces::default();
        let at = Duration::from_secs(60);
        assert!(namespaces.take("web", RATE, at) && namespaces.take("web", RATE, at));
        let invented = (0..100_000).filter(|number| namespaces.take(&format!("n{number}"), RATE, at));
        assert_eq!(invented.count(), TOLD_APART - 1 + 2);
        assert_eq!(known(&namespaces), TOLD_APART);
        assert!(!namespaces.take("web", RATE, at), "nobody was forgotten for them");
        // Each has asked once, so a second later only the busy one is left.
        let later = at + Duration::from_secs(1);
        assert!(namespaces.take("another", RATE, later));
        assert_eq!(known(&namespaces), 2);
    }
}
