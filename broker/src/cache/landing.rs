//! What a fetch changes when it ends, however it ends: a token, a failure, a panic.

use std::{fmt::Debug, hash::Hash, sync::Arc, time::Duration};

use proto::Reason;
use runtime::Moment;

use super::{Outcome, Token, TokenCache, flights::Lead, store::Entry};
use crate::{
    error::CredentialError,
    expiry::{Need, Record, after_failure},
    metrics::CacheResult,
    tenant::Tenant,
};

/// Less than this is no gain: the same token, its life counted in whole seconds by somebody else.
const NEWER_BY: Duration = Duration::from_secs(2);

/// What a cache below knows may change before the time that it said: it is asked once in this time.
const LONGEST_QUIET: Duration = Duration::from_secs(60);

/// A fetch between its start and its landing. Dropped before that, its task panicked or ended with the process: that
/// is a failure like any other, and is remembered.
pub(super) struct Journey<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    cache: TokenCache<K, V>,
    lead: Option<Lead<K, Tenant, Outcome<V>>>,
    key: K,
    tenant: Tenant,
    need: Need,
}

impl<K, V> Journey<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(
        cache: TokenCache<K, V>,
        lead: Lead<K, Tenant, Outcome<V>>,
        key: K,
        tenant: Tenant,
        need: Need,
    ) -> Self {
        Self {
            cache,
            lead: Some(lead),
            key,
            tenant,
            need,
        }
    }

    pub(super) fn land(mut self, fetched: Result<Token<V>, CredentialError>) {
        self.settle(fetched);
    }

    /// Store, then leave the map of flights, then tell: whoever looks in between finds the outcome.
    fn settle(&mut self, fetched: Result<Token<V>, CredentialError>) {
        let Some(lead) = self.lead.take() else { return };
        let inner = &self.cache.0;
        let now = inner.clock.moment();
        let before = inner.store.get(&self.key);
        let asked_azure = !matches!(&fetched, Err(error) if error.is_remembered);
        inner.metrics.count(if asked_azure {
            CacheResult::Miss
        } else {
            CacheResult::Remembered
        });
        let (entry, outcome) = landed(before.as_deref(), fetched, &self.need, now, rand::random());
        if let Some(entry) = entry
            && inner.store.put(&self.key, &self.tenant, entry)
        {
            inner.metrics.count_new_key(&self.tenant.cluster);
        }
        lead.land(outcome);
    }
}

impl<K, V> Drop for Journey<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if self.lead.is_some() {
            if std::thread::panicking() {
                tracing::error!(key = ?self.key, "a fetch panicked");
            }
            self.settle(Err(CredentialError::titled(Reason::Internal)));
        }
    }
}

/// What is stored after a fetch, and what its waiters get. Pure.
fn landed<V: Clone>(
    before: Option<&Entry<V>>,
    fetched: Result<Token<V>, CredentialError>,
    need: &Need,
    now: Moment,
    chance: f64,
) -> (Option<Entry<V>>, Outcome<V>) {
    let record = before.map(|entry| entry.record).unwrap_or_default();
    let old = before.and_then(|entry| entry.token.as_ref());
    // Below the floor it could expire before it is used, and would be fetched anew on every request.
    let fetched = fetched.and_then(|token| {
        if token.lifetime.is_usable(now) {
            return Ok(token);
        }
        Err(CredentialError::new(
            Reason::UpstreamMalformed,
            "Azure issued a token that lives less than a minute",
        ))
    });
    let error = match fetched {
        Ok(fetched) => {
            let (token, quiet_until) = newer_of(old, fetched, need, now);
            let record = Record {
                caused_at: record.caused_at,
                quiet_until,
                negative: None,
            };
            let entry = Entry::after_fetch(before, Some(Arc::clone(&token)), None, record, now);
            return (Some(entry), Ok(token));
        }
        Err(error) => error,
    };
    let left = before
        .and_then(|before| before.usable_token(now))
        .map(|token| token.lifetime.remaining(now));
    if error.is_remembered {
        // It is known below, or nothing was sent at all: whoever knows says when to ask again, and remembering it here
        // too would only add delays. But a token that is handed out meanwhile starts no renewal with every request.
        let entry = before.filter(|_before| left.is_some()).map(|before| {
            let quiet = now.monotonic + error.retry_after.unwrap_or_default().min(LONGEST_QUIET);
            before.with_record(Record {
                quiet_until: Some(quiet),
                ..record
            })
        });
        // Of one reason it is the text of this key that counts: what somebody else's call met says less, and a text that
        // changes from try to try is written to the status of an object each time.
        let own = before.and_then(|entry| entry.error.as_ref());
        let error = match own.filter(|own| own.reason == error.reason) {
            Some(own) => CredentialError {
                retry_after: error.retry_after,
                ..own.clone()
            },
            None => error,
        };
        return (entry, Err(error));
    }
    let negative = after_failure(
        record.negative.as_ref(),
        error.reason.retry_class(),
        error.retry_after,
        left,
        now.monotonic,
        chance,
    );
    let error = CredentialError {
        is_remembered: true,
        ..error
    };
    let record = Record {
        negative: Some(negative),
        caused_at: need.force.then_some(now.monotonic).or(record.caused_at),
        quiet_until: None,
    };
    let entry = Entry::after_fetch(before, old.cloned(), Some(error.clone()), record, now);
    let wait = negative.retry_at.saturating_sub(now.monotonic);
    (Some(entry), Err(error.retry_after(wait)))
}

/// A token replaces an older one only if it has more left, unless the older one was refused by the registry. If it has
/// not, nobody asks for another for a while (the second value).
fn newer_of<V: Clone>(
    old: Option<&Arc<Token<V>>>,
    fetched: Token<V>,
    need: &Need,
    now: Moment,
) -> (Arc<Token<V>>, Option<Duration>) {
    match old.filter(|old| old.lifetime.is_usable(now)) {
        // By what is left and not by the time of day at its end: the clock may have been set in between.
        Some(old)
            if !need.rejected_current
                && fetched.lifetime.remaining(now) <= old.lifetime.remaining(now) + NEWER_BY =>
        {
            let (lifetime, pause) = old.lifetime.not_renewed(now);
            let value = old.value.clone();
            (Arc::new(Token { value, lifetime }), Some(now.monotonic + pause))
        }
        _ => (Arc::new(fetched), None),
    }
}
