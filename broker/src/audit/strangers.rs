//! How many refusals get a record of their own. Anybody can cause one by being nobody, and anybody in a cluster by having
//! no right to call or by asking too often: a flood of either must neither fill a disk nor crowd out the records of
//! others. Each source has so many a second; the rest is counted, by source and reason. Within a cluster a caller who has had
//! none in this second gets one all the same: another's flood does not hide that somebody tries a stolen token.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use proto::Reason;

/// Callers of a cluster that are told apart in one second. More ServiceAccounts than one pod can ask as, and few enough that
/// all of them together fill no disk.
const MAX_CALLERS: usize = 64;

/// Whom something is counted for: the callers of a cluster together, or all whom no cluster vouches for.
pub(super) type Source = Option<Arc<str>>;

/// How many were not recorded, by source and reason. There are few reasons to be refused before anything was asked.
pub(super) type Suppressed = Vec<(Source, Vec<(Reason, u64)>)>;

/// So many a second for each source. Remembers as many sources as there are clusters, and of each a few callers.
pub(super) struct Ration {
    per_second: AtomicU32,
    counts: Mutex<HashMap<Source, Count>>,
}

/// The count of the second that runs, and what was not recorded since it was last asked for.
#[derive(Default)]
struct Count {
    second: u64,
    granted: u32,
    /// Who has had a record in that second.
    callers: HashSet<Arc<str>>,
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

    /// Whether a refusal of `caller`, who is one of `source`, at `at` gets a record; if not, it is counted.
    pub(super) fn may_be_recorded(
        &self,
        at: Duration,
        source: Source,
        caller: Option<&Arc<str>>,
        reason: Reason,
    ) -> bool {
        let per_second = self.per_second.load(Ordering::Relaxed);
        let mut counts = self.counts();
        let count = counts.entry(source).or_default();
        let is_within = count.take(at, per_second);
        let is_first = per_second > 0 && caller.is_some_and(|caller| count.is_first_of(caller));
        let has_one = is_within || is_first;
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
            self.callers.clear();
        }
        let has_one = self.granted < per_second;
        self.granted += u32::from(has_one);
        has_one
    }

    /// Whether this caller has had none in the second that runs; now it has.
    fn is_first_of(&mut self, caller: &Arc<str>) -> bool {
        self.callers.len() < MAX_CALLERS && self.callers.insert(Arc::clone(caller))
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
            recorded += u32::from(strangers.may_be_recorded(at, None, None, reason));
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
        assert!(!strangers.may_be_recorded(FLOOD, None, None, Reason::CallerUnauthenticated));
        assert_eq!(
            strangers.take_suppressed(FLOOD),
            [(None, vec![(Reason::CallerUnauthenticated, 1)])]
        );
        let (east, caller) = (Arc::from("east"), Arc::from("caller"));
        assert!(!strangers.may_be_recorded(FLOOD, Some(east), Some(&caller), Reason::CallerThrottled));
    }

    #[test]
    fn o1_each_cluster_has_a_rate_of_its_own_and_quiet_ones_are_forgotten() {
        let ration = Ration::new(2);
        let of = |name: &str| Some(Arc::from(name));
        for _ in 0..5 {
            ration.may_be_recorded(FLOOD, of("east"), None, Reason::CallerThrottled);
        }
        assert!(ration.may_be_recorded(FLOOD, of("west"), None, Reason::CallerThrottled));
        assert!(ration.may_be_recorded(FLOOD, None, None, Reason::CallerUnauthenticated));
        let suppressed = ration.take_suppressed(FLOOD);
        assert_eq!(suppressed, [(of("east"), vec![(Reason::CallerThrottled, 3)])]);
        // To be summed up is no reason to have more in the same second.
        assert!(!ration.take(FLOOD, of("east")));
        assert!(ration.take_suppressed(FLOOD + Duration::from_secs(1)).is_empty());
        assert!(ration.counts().is_empty());
    }

    #[test]
    fn o1_flood_of_one_caller_hides_no_other_of_its_cluster() {
        let ration = Ration::new(2);
        let refused = |at, caller: &str| {
            let (east, caller) = (Some(Arc::from("east")), Arc::from(caller));
            ration.may_be_recorded(at, east, Some(&caller), Reason::CallerNotPermitted)
        };
        for second in 0..3 {
            let at = FLOOD + Duration::from_secs(second);
            let recorded = (0..1_000).filter(|_| refused(at, "flood")).count();
            assert_eq!(recorded, 2);
            assert!(refused(at, "thief"), "its first");
            assert!(!refused(at, "thief"), "and no second");
        }
        // Nobody fills a disk by having many names.
        let at = FLOOD + Duration::from_secs(3);
        let recorded = (0..1_000)
            .filter(|number| refused(at, &number.to_string()))
            .count();
        assert_eq!(recorded, MAX_CALLERS);
        assert_eq!(
            ration.counts()[&Some(Arc::from("east"))].callers.len(),
            MAX_CALLERS
        );
    }
}
