//! What is kept of each key, bounded by count and by bytes, and of each namespace and cluster by its quota.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use moka::{policy::EvictionPolicy, sync::Cache};
use proto::catalogue::RetryClass;
use runtime::Moment;

use super::{
    Departure, Token,
    quotas::{Holders, Quota},
};
use crate::{error::CredentialError, expiry::Record, tenant::Tenant};

/// Key, entry, failure text and the map's own overhead, roughly.
const ENTRY_BYTES: usize = 1024;
/// A key that fails is forgotten when nobody asked for it in this long: twice the longest time between two
/// tries, after which a row of failures has ended anyway.
const FAILING_IDLE: Duration = Duration::from_secs(30 * 60);

/// How much a cache holds at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Keys.
    pub keys: u64,
    /// Bytes of tokens, with what it takes to keep them.
    pub bytes: u64,
}

/// What is known of one key.
pub(super) struct Entry<V> {
    pub(super) token: Option<Arc<Token<V>>>,
    pub(super) error: Option<CredentialError>,
    pub(super) record: Record,
    /// When somebody last asked, in milliseconds of the monotonic clock.
    asked_at: AtomicU64,
}

/// Entries by key.
pub(super) struct Store<K, V> {
    entries: Cache<K, Arc<Held<V>>>,
    holders: Arc<Holders>,
    weigh: fn(&V) -> usize,
    /// A small entry weighs as much as its share of the bytes, so that one bound keeps both.
    least: u32,
}

struct Held<V> {
    entry: Arc<Entry<V>>,
    /// Who asked for the key first.
    tenant: Tenant,
    bytes: u32,
}

impl<V> Entry<V> {
    /// What a fetch leaves of the entry `before` it, which nobody has asked for anew by that.
    pub(super) fn after_fetch(
        before: Option<&Self>,
        token: Option<Arc<Token<V>>>,
        error: Option<CredentialError>,
        record: Record,
        now: Moment,
    ) -> Self {
        let asked_at = before.map_or_else(|| millis(now), |before| before.asked_at.load(Ordering::Relaxed));
        Self {
            token,
            error,
            record,
            asked_at: AtomicU64::new(asked_at),
        }
    }

    pub(super) fn with_record(&self, record: Record) -> Self {
        Self {
            token: self.token.clone(),
            error: self.error.clone(),
            record,
            asked_at: AtomicU64::new(self.asked_at.load(Ordering::Relaxed)),
        }
    }

    pub(super) fn was_asked_for(&self, now: Moment) {
        self.asked_at.store(millis(now), Ordering::Relaxed);
    }

    pub(super) fn usable_token(&self, now: Moment) -> Option<&Arc<Token<V>>> {
        self.token.as_ref().filter(|token| token.lifetime.is_usable(now))
    }

    /// The failure and when it is over, as a time of day.
    pub(super) fn failure(&self, now: Moment) -> Option<(CredentialError, SystemTime)> {
        let error = self.error.clone()?;
        let retry_at = self.record.negative?.retry_at;
        Some((error, now.wall + retry_at.saturating_sub(now.monotonic)))
    }

    /// What the next fetch has to know of those before it.
    pub(super) fn departure(&self, now: Moment) -> Departure {
        Departure {
            is_retry: self.record.negative.is_some_and(|negative| {
                negative.class == RetryClass::Transient
                    && now.monotonic.saturating_sub(negative.retry_at) <= FAILING_IDLE
            }),
            failed_before: self.error.as_ref().map(|error| error.reason),
            has_worked: self.token.is_some(),
        }
    }

    /// Whether nobody asked for it during two refresh periods (guarantee U7), or for long while there was nothing to get.
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        let asked_at = Duration::from_millis(self.asked_at.load(Ordering::Relaxed));
        let of_token = self
            .token
            .as_ref()
            .map(|token| 2 * token.lifetime.refresh_period());
        let of_failure = self.error.as_ref().map(|_error| FAILING_IDLE);
        Some(now.monotonic.saturating_sub(asked_at)) > of_token.max(of_failure)
    }
}

fn millis(now: Moment) -> u64 {
    u64::try_from(now.monotonic.as_millis()).unwrap_or(u64::MAX)
}

impl<K, V> Store<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(bounds: Bounds, weigh: fn(&V) -> usize) -> Self {
        let least = u32::try_from(bounds.bytes / bounds.keys.max(1)).unwrap_or(u32::MAX);
        let holders = Arc::new(Holders::new(bounds.bytes, least));
        let leavers = Arc::clone(&holders);
        let entries = Cache::builder()
            .max_capacity(bounds.bytes)
            .weigher(|_key, held: &Arc<Held<V>>| held.bytes)
            // The default policy may refuse a fresh token because older keys are asked for more often.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_key, held, _cause| leavers.leave(&held.tenant, held.bytes))
            .build();
        Self {
            entries,
            holders,
            weigh,
            least,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<Arc<Entry<V>>> {
        self.entries.get(key).map(|held| Arc::clone(&held.entry))
    }

    /// Stores an entry; whether its key is new here. It counts for the tenant that the key was first stored for.
    pub(super) fn put(&self, key: &K, tenant: &Tenant, entry: Entry<V>) -> bool {
        let before = self.entries.get(key);
        let is_new = before.is_none();
        let tenant = before.map_or_else(|| tenant.clone(), |held| held.tenant.clone());
        let value = entry.token.as_ref().map_or(0, |token| (self.weigh)(&token.value));
        let bytes = u32::try_from(value.saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX);
        let held = Held {
            entry: Arc::new(entry),
            tenant,
            bytes: bytes.max(self.least),
        };
        self.holders.enter(&held.tenant, held.bytes);
        self.entries.insert(key.clone(), Arc::new(held));
        is_new
    }

    /// What stands against one more key of a tenant.
    pub(super) fn too_much(&self, tenant: &Tenant) -> Option<Quota> {
        self.holders.too_much(tenant)
    }

    /// Has a cluster with more than its share of a cache that is nearly full give way: what it has not asked for the longest
    /// goes first.
    pub(super) fn make_room(&self) {
        let Some((cluster, bytes)) = self.holders.must_give_way() else {
            return;
        };
        let mut of_cluster: Vec<_> = self
            .entries
            .iter()
            .filter(|(_key, held)| held.tenant.cluster == cluster)
            .collect();
        of_cluster.sort_by_key(|(_key, held)| held.entry.asked_at.load(Ordering::Relaxed));
        let mut freed = 0;
        for (key, held) in of_cluster {
            if freed >= bytes {
                break;
            }
            self.entries.invalidate(&*key);
            freed += u64::from(held.bytes);
        }
        self.entries.run_pending_tasks();
    }

    /// Removes what `matches` and lets go of what was evicted; how many matched.
    pub(super) fn remove_where(&self, matches: impl Fn(&K, &Entry<V>) -> bool) -> u64 {
        let mut removed = 0;
        for (key, held) in &self.entries {
            if matches(&key, &held.entry) {
                self.entries.invalidate(&*key);
                removed += 1;
            }
        }
        self.entries.run_pending_tasks();
        removed
    }

    pub(super) fn len(&self) -> u64 {
        self.entries.entry_count()
    }
}
