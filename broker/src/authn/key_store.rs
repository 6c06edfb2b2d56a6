//! The keys of a cluster at this moment, swapped as a whole.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::KeySet;

/// What operators see where a fetch succeeded, and not all of its keys are used. The contract lists the words.
const SHARED: &str = "shared_with_another_cluster";

/// Holds the keys; none before the first successful fetch. Cheap to clone, and clones hold the same keys: they outlive a
/// configuration whose successor has the same source of keys.
#[derive(Debug, Clone, Default)]
pub struct KeyStore(Arc<State>);

#[derive(Debug, Default)]
struct State {
    current: ArcSwapOption<KeySet>,
    /// Whether keys that were fetched are left out of the current ones.
    is_contested: AtomicBool,
    attempts: Mutex<Attempts>,
    fetches: Mutex<Fetches>,
    refetch: Notify,
}

/// When they were last fetched or asked for, by the monotonic clock.
#[derive(Debug, Clone, Copy, Default)]
struct Attempts {
    tried_at: Option<Duration>,
    asked_at: Option<Duration>,
}

/// How fetching the keys went, where they are fetched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fetches {
    /// The last time that it succeeded.
    pub succeeded_at: Option<SystemTime>,
    /// Why the last try failed, if it did, or why not all of what it brought is used: one of a few fixed words.
    pub failure: Option<&'static str>,
}

impl KeyStore {
    /// A store that holds `keys` from the start.
    pub fn with(keys: KeySet) -> Self {
        let store = Self::default();
        store.0.current.store(Some(Arc::new(keys)));
        store
    }

    /// The keys, if there are any.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.0.current.load_full()
    }

    /// Whether `other` is a clone of this one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Replaces the keys. Whether they differ from before. What has verified a token with the old ones is forgotten by
    /// that, so keys that are confirmed stay the very same.
    pub(super) fn replace(&self, keys: KeySet) -> bool {
        let changed = self.current().is_none_or(|before| !before.same_keys(&keys));
        if changed {
            self.0.current.store(Some(Arc::new(keys)));
        }
        changed
    }

    /// Takes what may be used of the keys that were fetched: all, some or none.
    pub(super) fn settle(&self, keys: Option<KeySet>, is_contested: bool) {
        self.0.is_contested.store(is_contested, Ordering::Relaxed);
        match keys {
            Some(keys) => drop(self.replace(keys)),
            None => self.0.current.store(None),
        }
    }

    /// How fetching the keys went.
    pub fn fetches(&self) -> Fetches {
        let fetches = *self.0.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        let is_contested = self.0.is_contested.load(Ordering::Relaxed);
        Fetches {
            failure: fetches.failure.or_else(|| is_contested.then_some(SHARED)),
            ..fetches
        }
    }

    /// Remembers how a try to fetch the keys ended.
    pub(super) fn fetched(&self, result: Result<SystemTime, &'static str>) {
        let mut fetches = self.0.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(at) => {
                *fetches = Fetches {
                    succeeded_at: Some(at),
                    failure: None,
                }
            }
            Err(failure) => fetches.failure = Some(failure),
        }
    }

    /// They are being fetched now.
    pub(crate) fn tried(&self, now: Duration) {
        self.attempts().tried_at = Some(now);
    }

    /// When they were last fetched, with success or not; never, where nobody fetches them.
    pub(super) fn tried_at(&self) -> Option<Duration> {
        self.attempts().tried_at
    }

    /// Asks for fresh ones at once.
    pub(super) fn ask(&self, now: Duration) {
        self.attempts().asked_at = Some(now);
        self.0.refetch.notify_one();
    }

    /// When they were last asked for.
    pub(super) fn asked_at(&self) -> Option<Duration> {
        self.attempts().asked_at
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until fresh keys are asked for.
    pub(crate) async fn refetch_wanted(&self) {
        self.0.refetch.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn key_store_remembers_the_last_success_beside_the_last_failure() {
        let store = KeyStore::default();
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        let seen = || (store.fetches().succeeded_at, store.fetches().failure);
        store.fetched(Err("no_answer"));
        assert_eq!(seen(), (None, Some("no_answer")));
        store.fetched(Ok(UNIX_EPOCH + Duration::from_secs(5)));
        assert_eq!(seen(), (at(5), None));
        store.fetched(Err("http_status"));
        assert_eq!(seen(), (at(5), Some("http_status")));
    }
}
