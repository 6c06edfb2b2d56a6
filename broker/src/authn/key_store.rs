//! The keys of a cluster at this moment, swapped as a whole.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::KeySet;

/// An unknown key id asks for fresh keys at most this often (guarantee A7): it may be a rotation, or a flood of forgeries.
const MISS_COOLDOWN: Duration = Duration::from_secs(60);

/// Holds the keys; none before the first successful fetch.
#[derive(Debug, Default)]
pub struct KeyStore {
    current: ArcSwapOption<KeySet>,
    last_miss_at: Mutex<Option<SystemTime>>,
    refetch: Notify,
}

impl KeyStore {
    /// A store that holds `keys` from the start.
    pub fn with(keys: KeySet) -> Self {
        let store = Self::default();
        store.current.store(Some(Arc::new(keys)));
        store
    }

    /// The keys, if any were ever loaded.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// Replaces the keys. Whether they differ from before.
    pub(super) fn replace(&self, keys: KeySet) -> bool {
        let changed = self
            .current
            .load()
            .as_ref()
            .is_none_or(|before| !before.same_keys(&keys));
        if changed {
            self.current.store(Some(Arc::new(keys)));
        }
        changed
    }

    /// A token named a key that is not here.
    pub(super) fn miss(&self, now: SystemTime) {
        let mut last = self.last_miss_at.lock().unwrap_or_else(PoisonError::into_inner);
        let cooling = last.is_some_and(|at| now.duration_since(at).is_ok_and(|since| since < MISS_COOLDOWN));
        if !cooling {
            *last = Some(now);
            self.refetch.notify_one();
        }
    }

    /// Waits until fresh keys are asked for.
    pub(super) async fn refetch_wanted(&self) {
        self.refetch.notified().await;
    }
}
