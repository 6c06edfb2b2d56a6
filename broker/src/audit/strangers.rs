//! How many refusals get a record of their own. Anybody can cause one by being nobody, and anybody in a cluster by having
//! no right to call or by asking too often: a flood of either must neither fill a disk nor crowd out the records of
//! others. Each source has so many a second; the rest is counted, by source and reason.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use proto::Reason;

/// Whom something is counted for: the callers of a cluster together, or all whom no cluster vouches for.
pub(super) type Source = Option<Arc<str>>;

/// How many were not recorded, by source and reason. There are few reasons to be refused before anything was asked.
pub(super) type Suppressed = Vec<(Source, Vec<(Reason, u64)>)>;

/// So many a second for each source. Remembers as many sources as there are clusters.
pub(super) struct Ration {
    per_second: AtomicU32,
    counts: Mutex<HashMap<Source, Count>>,
}

/// The count of the second that runs, and what was not recorded since it was last asked for.
#[derive(Default)]
struct Count {
    second: u64,
    granted: u32,
    suppressed: Vec<(Reason, u64)>,
}

impl Ration {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second: AtomicU32::new(per_second),
            counts: Mutex::default(),
        }
    }

    /// Takes another rate into use.
    pub(super) fn adopt(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Whether `source` has one left at `at` (monotonic); if so, it is used up.
    pub(super) fn take(&self, at: Duration, source: Source) -> bool {
        let per_second = self.per_second.load(Ordering::Relaxed);
        self.counts().entry(source).or_default().take(at, per_second)
    }

    /// Whether a refusal of `source` at `at` gets a record; if not, it is counted.
    pub(super) fn may_be_recorded(&self, at: Duration, source: Source, reason: Reason) -> bool {
        let per_second = self.per_second.load(Ordering::Relaxed);
        let mut counts = self.counts();
        let count = counts.entry(source).or_default();
        let has_one = count.take(at, per_second);
        if !has_one {
            count.suppress(reason);
        }
        has_one
    }

    /// What has not been recorded since this was called last, sorted. Sources that are quiet at `at` are forgotten.
    pub(super) fn take_suppressed(&self, at: Duration) -> Suppressed {
        let mut counts = self.counts();
        let mut suppressed: Suppressed = counts
            .iter_mut()
            .filter(|(_source, count)| !count.suppressed.is_empty())
            .map(|(source, count)| (source.clone(), mem::take(&mut count.suppressed)))
            .collect();
        counts.retain(|_source, count| count.second == at.as_secs());
        drop(counts);
        suppressed.sort_by(|(one, _), (other, _)| one.cmp(other));
        suppressed
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Source, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    fn take(&mut self, at: Duration, per_second: u32) -> bool {
        if self.second != at.as_secs() {
            self.second = at.as_secs();
            self.granted = 0;
        }
        let has_one = self.granted < per_second;
        self.granted += u32::from(has_one);
        has_one
    }

    fn suppress(&mut self, reason: Reason) {
        match self
            .suppressed
            .iter_mut()
            .find(|(known, _times)| *known == reason)
        {
            Some((_reason, times)) => *times += 1,
            None => self.suppressed.push((reason, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: Duration = Duration::from_secs(1_000);

    #[test]
    fn o1_strangers_beyond_the_rate_are_counted_by_reason() {
        let strangers = Ration::new(10);
        let mut recorded = 0;
        for millis in 0..3000 {
            let reason = if millis % 3 == 0 {
                Reason::ClusterNotRegistered
            } else {
                Reason::CallerUnauthenticated
            };
            let at = Duration::from_millis(1_000_500 + millis);
            recorded += u32::from(strangers.may_be_recorded(at, None, reason));
        }
        // Parts of four seconds by the clock.
        assert_eq!(recorded, 40);
        let suppressed = strangers.take_suppressed(FLOOD);
        let [(None, reasons)] = &suppressed[..] else {
            panic!("{suppressed:?}")
        };
        assert_eq!(reasons.iter().map(|(_reason, times)| times).sum::<u64>(), 2960);
        assert_eq!(reasons.len(), 2);
        assert!(strangers.take_suppressed(FLOOD).is_empty());
    }

    #[test]
    fn o1_strangers_may_have_no_record_at_all() {
        let strangers = Ration::new(0);
        assert!(!strangers.may_be_recorded(FLOOD, None, Reason::CallerUnauthenticated));
        assert_eq!(
            strangers.take_suppressed(FLOOD),
            [(None, vec![(Reason::CallerUnauthenticated, 1)])]
        );
    }

    #[test]
    fn o1_each_cluster_has_a_rate_of_its_own_and_quiet_ones_are_forgotten() {
        let ration = Ration::new(2);
        let of = |name: &str| Some(Arc::from(name));
        for _ in 0..5 {
            ration.may_be_recorded(FLOOD, of("east"), Reason::CallerThrottled);
        }
        assert!(ration.may_be_recorded(FLOOD, of("west"), Reason::CallerThrottled));
        assert!(ration.may_be_recorded(FLOOD, None, Reason::CallerUnauthenticated));
        let suppressed = ration.take_suppressed(FLOOD);
        assert_eq!(suppressed, [(of("east"), vec![(Reason::CallerThrottled, 3)])]);
        // To be summed up is no reason to have more in the same second.
        assert!(!ration.take(FLOOD, of("east")));
        assert!(ration.take_suppressed(FLOOD + Duration::from_secs(1)).is_empty());
        assert!(ration.counts().is_empty());
    }
}
