//! A bounded cache of tokens with one fetch in flight per key. Knows neither Azure nor HTTP.
//!
//! [`store`] holds and bounds, [`quotas`] says who may have how much, [`flights`] makes many waiters one fetch, [`landing`] says what a fetch changes,
//! [`serving`] what a caller gets; [`crate::expiry`] decides. Expiry, single flight and remembered failures are ours, over
//! an injected clock: moka's clock is private, its waiters run a fetch again when the leader goes away, and its expiry
//! knows no failures.
//!
//! A fetch runs in a task of its own: a caller that goes away, the first one included, changes nothing for the others.

mod flights;
mod landing;
mod quotas;
mod serving;
mod store;
mod sync;

use std::{
    fmt::Debug,
    hash::Hash,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::Reason;
use runtime::{Clock, Moment, tasks::spawn_detached};
use tracing::Instrument as _;

use crate::{
    error::CredentialError,
    expiry::{Decision, Lifetime, Need, Record, decide},
    metrics::{CacheMetrics, CacheResult},
    tenant::Tenant,
};
use flights::{Boarding, Flight, Flights};
use landing::Journey;
use quotas::{FLIGHTS, Quota};
pub use store::Bounds;
use store::{Entry, Store};

/// A renewal is waited for this long where the old token is still good: an Azure that hangs must not cost a caller its
/// deadline.
const PATIENCE: Duration = Duration::from_secs(5);
/// A renewal that is under way is there in this time, or has failed.
const UNDER_WAY: Duration = Duration::from_secs(30);
/// Bound on a fetch as a whole. Its parts have shorter ones; this ends what they miss.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// A token, or what was made of one, with its times.
#[derive(Clone)]
pub struct Token<V> {
    /// The token itself.
    pub value: V,
    /// Its times.
    pub lifetime: Lifetime,
}

/// What a caller gets.
pub struct Served<V> {
    /// The token.
    pub token: Arc<Token<V>>,
    /// It was due for renewal and could not be renewed.
    pub degraded: bool,
    /// When asking again makes sense. In the future.
    pub refresh_at: SystemTime,
}

/// What a fetch is told when it starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Departure {
    /// The fetch before it failed in a way that passes by itself: this one counts against the retry budget.
    pub is_retry: bool,
    /// Why the fetch before it failed, if it did.
    pub failed_before: Option<Reason>,
    /// There was a token for this key once: it has worked.
    pub has_worked: bool,
}

/// What is known of a key, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// The times of the token, if there is one that may be handed out.
    pub token: Option<Lifetime>,
    /// The failure that is remembered, and when Azure is asked again.
    pub failure: Option<(CredentialError, SystemTime)>,
}

/// Tokens by key. Cheap to clone; clones share everything.
pub struct TokenCache<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    store: Store<K, V>,
    flights: Arc<Flights<K, Tenant, Outcome<V>>>,
    clock: Arc<dyn Clock>,
    metrics: CacheMetrics,
}

type Outcome<V> = Result<Arc<Token<V>>, CredentialError>;

/// What a request does next.
enum Step<V> {
    Serve(Arc<Token<V>>, Again),
    Remembered(Arc<Entry<V>>),
    Wait(Flight<Outcome<V>>),
    Refuse(CredentialError),
}

/// When a caller that is served from memory should ask again.
#[derive(Clone, Copy)]
enum Again {
    /// When the token is due.
    WhenDue,
    /// Not before this, on the monotonic clock: until then there is nothing newer to be had.
    NotBefore(Duration),
    /// As soon as a caller can cause a renewal: this is the token that it reported.
    Soon,
}

/// A decision and what it was made of.
struct Judgement<V> {
    decision: Decision,
    entry: Option<Arc<Entry<V>>>,
    need: Need,
    now: Moment,
}

impl<K, V> Clone for TokenCache<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> TokenCache<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// An empty cache, where `weigh` tells the bytes of a value.
    pub fn new(bounds: Bounds, weigh: fn(&V) -> usize, clock: Arc<dyn Clock>, metrics: CacheMetrics) -> Self {
        Self(Arc::new(Inner {
            store: Store::new(bounds, weigh),
            flights: Flights::new(FLIGHTS),
            clock,
            metrics,
        }))
    }

    /// A token for `key` that meets what `need` says of the current one, fetching it on behalf of `tenant` if necessary.
    ///
    /// # Errors
    /// There is none and it could not be fetched, now or a moment ago.
    ///
    /// # Cancel safety
    /// Cancel safe: a fetch that has started goes on for whoever asks next.
    pub async fn get<F>(
        &self,
        key: &K,
        tenant: &Tenant,
        need: impl Fn(Option<&Token<V>>) -> Need,
        fetch: impl FnOnce(Departure) -> F,
    ) -> Result<Served<V>, CredentialError>
    where
        F: Future<Output = Result<Token<V>, CredentialError>> + Send + 'static,
    {
        let outcome = match self.next_step(key, tenant, &need, fetch) {
            Step::Serve(token, again) => return Ok(self.served(token, again)),
            Step::Remembered(entry) => return self.serve_remembered(&entry),
            Step::Wait(flight) => self.arrival(key, flight).await,
            Step::Refuse(error) => Err(error),
        };
        match outcome {
            Ok(token) => Ok(self.served(token, Again::WhenDue)),
            Err(error) => self.serve_despite(key, error),
        }
    }

    /// What is known of `key`. Asks nobody.
    pub fn inspect(&self, key: &K) -> KeyState {
        let now = self.0.clock.moment();
        let Some(entry) = self.0.store.get(key) else {
            return KeyState {
                token: None,
                failure: None,
            };
        };
        KeyState {
            token: entry.usable_token(now).map(|token| token.lifetime),
            failure: entry.failure(now),
        }
    }

    /// Drops every key that `matches`; how many there were. A fetch in flight still lands.
    pub fn invalidate(&self, matches: impl Fn(&K) -> bool) -> u64 {
        self.0.store.remove_where(|key, _entry| matches(key))
    }

    /// Lets go of what nobody asks for and of what was evicted, so that it is wiped; and of what must make room.
    pub fn maintain(&self) {
        let now = self.0.clock.moment();
        self.0.store.remove_where(|_key, entry| entry.is_idle(now));
        self.0.store.make_room();
        self.0.metrics.set_entries(self.0.store.len());
        self.0.metrics.set_fetches(self.0.flights.len());
    }

    /// Waits for a flight; where there is a token to fall back on, not for long.
    async fn arrival(&self, key: &K, flight: Flight<Outcome<V>>) -> Outcome<V> {
        let arrival = async {
            flight
                .outcome()
                .await
                .unwrap_or_else(|| Err(CredentialError::titled(Reason::Internal)))
        };
        // One that is too old by then is none: whoever falls back on it would be told of a deadline, and not of what is wrong.
        let now = self.0.clock.moment();
        let then = Moment {
            wall: now.wall + PATIENCE,
            monotonic: now.monotonic + PATIENCE,
        };
        let has_fallback = self
            .0
            .store
            .get(key)
            .is_some_and(|entry| entry.usable_token(then).is_some());
        if !has_fallback {
            return arrival.await;
        }
        tokio::time::timeout(PATIENCE, arrival)
            .await
            .unwrap_or_else(|_elapsed| {
                Err(CredentialError::titled(Reason::DeadlineExceeded).retry_after(UNDER_WAY))
            })
    }

    fn next_step<F>(
        &self,
        key: &K,
        tenant: &Tenant,
        need: &impl Fn(Option<&Token<V>>) -> Need,
        fetch: impl FnOnce(Departure) -> F,
    ) -> Step<V>
    where
        F: Future<Output = Result<Token<V>, CredentialError>> + Send + 'static,
    {
        let first = self.judge(key, need);
        if let Some(entry) = &first.entry {
            entry.was_asked_for(first.now);
        }
        if let Some(step) = self.settled(&first) {
            return step;
        }
        // Again under the lock, now that no flight can land unseen: one may just have brought the token.
        let mut last = first;
        let boarding = self.0.flights.board(key, tenant, || {
            last = self.judge(key, need);
            self.settled(&last)
                .or_else(|| self.refused_by_quota(&last, tenant))
        });
        // Past its refresh point, and still good: handed out at once, whatever becomes of the renewal.
        let at_once = last
            .entry
            .as_ref()
            .filter(|_entry| last.decision == Decision::ServeAndRefresh)
            .and_then(|entry| entry.token.clone())
            .map(|token| Step::Serve(token, Again::WhenDue));
        match boarding {
            Boarding::Settled(step) => step,
            Boarding::Joined(flight) => {
                self.0.metrics.count(CacheResult::Coalesced);
                at_once.unwrap_or(Step::Wait(flight))
            }
            Boarding::Full => at_once.unwrap_or_else(|| refused(CredentialError::titled(Reason::Overloaded))),
            Boarding::Leads(lead, flight) => {
                let departure = last
                    .entry
                    .as_ref()
                    .map_or_else(Departure::default, |entry| entry.departure(last.now));
                if last.decision == Decision::FetchCaused
                    && let Some(entry) = &last.entry
                {
                    // Before the flight, so that nobody can cause another one meanwhile.
                    let record = Record {
                        caused_at: Some(last.now.monotonic),
                        ..entry.record
                    };
                    self.0.store.put(key, tenant, entry.with_record(record));
                }
                let journey = Journey::new(self.clone(), lead, key.clone(), tenant.clone(), last.need);
                let fetch = tokio::time::timeout(FETCH_TIMEOUT, fetch(departure));
                let flown = async move {
                    let outcome = fetch
                        .await
                        .unwrap_or_else(|_elapsed| Err(CredentialError::titled(Reason::DeadlineExceeded)));
                    journey.land(outcome);
                };
                spawn_detached(flown.instrument(tracing::Span::current()));
                at_once.unwrap_or(Step::Wait(flight))
            }
        }
    }

    fn judge(&self, key: &K, need: &impl Fn(Option<&Token<V>>) -> Need) -> Judgement<V> {
        let now = self.0.clock.moment();
        let entry = self.0.store.get(key);
        let token = entry.as_ref().and_then(|entry| entry.token.as_deref());
        let need = need(token);
        let record = entry.as_ref().map(|entry| entry.record).unwrap_or_default();
        Judgement {
            decision: decide(token.map(|token| &token.lifetime), &record, &need, now),
            entry,
            need,
            now,
        }
    }

    /// A new key for a namespace or a cluster that holds as much as it may.
    fn refused_by_quota(&self, judgement: &Judgement<V>, tenant: &Tenant) -> Option<Step<V>> {
        if judgement.entry.is_some() {
            return None;
        }
        let text = match self.0.store.too_much(tenant)? {
            Quota::Namespace => format!(
                "namespace {} has too many different credentials in use",
                tenant.namespace
            ),
            Quota::Cluster => format!(
                "cluster {} has more than its share of different credentials in use",
                tenant.cluster
            ),
        };
        Some(refused(CredentialError::new(Reason::Overloaded, text)))
    }

    /// The step, where no fetch is needed for it.
    fn settled(&self, judgement: &Judgement<V>) -> Option<Step<V>> {
        let entry = judgement.entry.as_ref()?;
        match judgement.decision {
            Decision::Serve => {
                let token = entry.token.clone()?;
                self.0.metrics.count(CacheResult::Hit);
                let is_due = token.lifetime.is_due(judgement.now);
                let again = match entry.record.not_before() {
                    _ if judgement.need.rejected_current => Again::Soon,
                    Some(at) if is_due => Again::NotBefore(at),
                    _ => Again::WhenDue,
                };
                Some(Step::Serve(token, again))
            }
            Decision::Remembered => {
                self.0.metrics.count(CacheResult::Remembered);
                Some(Step::Remembered(Arc::clone(entry)))
            }
            Decision::ServeAndRefresh | Decision::Fetch | Decision::FetchCaused => None,
        }
    }
}

/// Turned away without a fetch: nothing is learnt of the key, here or in a cache above.
fn refused<V>(error: CredentialError) -> Step<V> {
    Step::Refuse(CredentialError {
        is_remembered: true,
        ..error.retry_soon()
    })
}

#[cfg(test)]
mod tests;
