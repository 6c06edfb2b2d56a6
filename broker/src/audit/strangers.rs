//! How many refusals of callers whom nobody knows get a record of their own. Anybody can cause one, so a flood of them
//! must neither fill a disk nor crowd out the records of known callers: the rest is counted, by reason.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::Reason;

/// The count of the second that runs, and what was not recorded since it was last asked for.
#[derive(Default)]
pub(super) struct Strangers(Mutex<Count>);

#[derive(Default)]
struct Count {
    second: u64,
    recorded: u32,
    suppressed: Suppressed,
}

/// How many were not recorded, by reason. There are as many reasons as there are ways to be a stranger: few.
pub(super) type Suppressed = Vec<(Reason, u64)>;

impl Strangers {
    /// Whether a refusal at `at` (monotonic) gets a record; if not, it is counted.
    pub(super) fn may_be_recorded(&self, at: Duration, per_second: u32, reason: Reason) -> bool {
        let mut count = self.count();
        if count.second != at.as_secs() {
            count.second = at.as_secs();
            count.recorded = 0;
        }
        if count.recorded < per_second {
            count.recorded += 1;
            return true;
        }
        match count
            .suppressed
            .iter_mut()
            .find(|(known, _times)| *known == reason)
        {
            Some((_reason, times)) => *times += 1,
            None => count.suppressed.push((reason, 1)),
        }
        false
    }

    /// What has not been recorded since this was called last.
    pub(super) fn take_suppressed(&self) -> Suppressed {
        std::mem::take(&mut self.count().suppressed)
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_strangers_beyond_the_rate_are_counted_by_reason() {
        let strangers = Strangers::default();
        let mut recorded = 0;
        for millis in 0..3000 {
            let reason = if millis % 3 == 0 {
                Reason::ClusterNotRegistered
            } else {
                Reason::CallerUnauthenticated
            };
            recorded +=
                u32::from(strangers.may_be_recorded(Duration::from_millis(1_000_500 + millis), 10, reason));
        }
        // Parts of four seconds by the clock.
        assert_eq!(recorded, 40);
        let suppressed = strangers.take_suppressed();
        assert_eq!(suppressed.iter().map(|(_reason, times)| times).sum::<u64>(), 2960);
        assert_eq!(suppressed.len(), 2);
        assert!(strangers.take_suppressed().is_empty());
    }

    #[test]
    fn o1_strangers_may_have_no_record_at_all() {
        let strangers = Strangers::default();
        assert!(!strangers.may_be_recorded(Duration::ZERO, 0, Reason::CallerUnauthenticated));
        assert_eq!(strangers.take_suppressed(), [(Reason::CallerUnauthenticated, 1)]);
    }
}
