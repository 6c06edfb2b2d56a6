//! A bounded cache of tokens with one fetch in flight per key. Knows neither Azure nor HTTP.
//!
//! moka stores and bounds. Expiry, single flight and remembered failures are ours, over an injected clock, because
//! moka's clock is private, its waiters run a fetch again when the leader goes away, and its expiry knows no failures.
//!
//! A fetch runs in a task of its own: a caller that goes away, the first one included, changes nothing for the others.
//! The one lock guards the map of flights; it is held for map operations and never across I/O.

mod flight;
mod serving;

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use moka::{policy::EvictionPolicy, sync::Cache};
use proto::Reason;
use runtime::{Clock, tasks::spawn_detached};
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::{
    error::CredentialError,
    expiry::{Decision, Lifetime, Need, Negative, after_failure, decide},
    metrics::{CacheMetrics, CacheResult},
};
use flight::{Landing, arrival};

/// Fetches in flight per cache at most; more is an overload that waiting would make worse.
const MAX_FLIGHTS: usize = 4096;
/// What nobody asked for in this long is dropped and wiped. Longer than any refresh period but that of 24 h tokens,
/// which cost one call to fetch anew.
const IDLE: Duration = Duration::from_secs(6 * 3600);
/// A renewal that brought no later expiry is tried again after this long, or a twentieth of the lifetime.
const NO_NEWER_TOKEN: Duration = Duration::from_secs(60);

/// A renewal is waited for this long where the old token is still good.
const PATIENCE: Duration = Duration::from_secs(5);
/// A renewal that is under way is there in this time, or has failed.
const UNDER_WAY: Duration = Duration::from_secs(30);

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

/// Tokens by key. Cheap to clone; clones share everything.
pub struct TokenCache<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    entries: Cache<K, Arc<Entry<V>>>,
    flights: Mutex<HashMap<K, Flight<V>>>,
    clock: Arc<dyn Clock>,
    metrics: CacheMetrics,
}

#[derive(Clone)]
struct Entry<V> {
    token: Option<Arc<Token<V>>>,
    failure: Option<Failure>,
}

#[derive(Clone)]
struct Failure {
    negative: Negative,
    error: CredentialError,
}

type Outcome<V> = Result<Arc<Token<V>>, CredentialError>;
type Flight<V> = watch::Receiver<Option<Outcome<V>>>;

/// What a request does next.
enum Step<V> {
    Serve(Arc<Token<V>>),
    Remembered(Arc<Entry<V>>),
    Wait(Flight<V>),
    Overloaded,
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
    /// A cache of at most `max_bytes`, where `weigh` tells the size of a value.
    pub fn new(max_bytes: u64, weigh: fn(&V) -> usize, clock: Arc<dyn Clock>, metrics: CacheMetrics) -> Self {
        /// Key, entry, failure text and the map's own overhead, roughly.
        const ENTRY_BYTES: usize = 1024;
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(move |_key, entry: &Arc<Entry<V>>| {
                let value = entry.token.as_ref().map_or(0, |token| weigh(&token.value));
                u32::try_from(value.saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX)
            })
            // The default policy may refuse a fresh token because older keys are asked for more often.
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(IDLE)
            .build();
        Self(Arc::new(Inner {
            entries,
            flights: Mutex::default(),
            clock,
            metrics,
        }))
    }

    /// A token for `key` that meets what `need` says of the current one, fetching it if necessary.
    ///
    /// # Errors
    /// There is none and it could not be fetched, now or a moment ago.
    ///
    /// # Cancel safety
    /// Cancel safe: a fetch that has started goes on for whoever asks next.
    pub async fn get<F>(
        &self,
        key: &K,
        need: impl Fn(Option<&Token<V>>) -> Need,
        fetch: impl FnOnce() -> F,
    ) -> Result<Served<V>, CredentialError>
    where
        F: Future<Output = Result<Token<V>, CredentialError>> + Send + 'static,
    {
        let outcome = match self.next_step(key, &need, fetch) {
            Step::Serve(token) => Ok(token),
            Step::Remembered(entry) => return self.serve_remembered(&entry),
            Step::Wait(flight) => self.arrival_or_patience(key, flight).await,
            Step::Overloaded => Err(CredentialError::titled(Reason::Overloaded)),
        };
        match outcome {
            Ok(token) => Ok(self.served(token)),
            Err(error) => self.serve_despite(key, error),
        }
    }

    /// Waits for a flight; where there is a token to fall back on, not for long: an Azure that hangs must not cost
    /// a caller its deadline.
    async fn arrival_or_patience(&self, key: &K, flight: Flight<V>) -> Outcome<V> {
        let has_fallback = self
            .0
            .entries
            .get(key)
            .and_then(|entry| entry.token.clone())
            .is_some_and(|token| token.lifetime.is_usable(self.0.clock.now()));
        if !has_fallback {
            return arrival(flight).await;
        }
        tokio::time::timeout(PATIENCE, arrival(flight))
            .await
            .unwrap_or_else(|_elapsed| {
                Err(CredentialError::titled(Reason::DeadlineExceeded).retry_after(UNDER_WAY))
            })
    }

    /// Lets go of what was evicted or has been idle, so that it is wiped.
    pub fn maintain(&self) {
        self.0.entries.run_pending_tasks();
        self.0.metrics.set_entries(self.0.entries.entry_count());
    }

    fn next_step<F>(
        &self,
        key: &K,
        need: &impl Fn(Option<&Token<V>>) -> Need,
        fetch: impl FnOnce() -> F,
    ) -> Step<V>
    where
        F: Future<Output = Result<Token<V>, CredentialError>> + Send + 'static,
    {
        let judge = |entry: Option<&Arc<Entry<V>>>| {
            let token = entry.and_then(|entry| entry.token.as_ref());
            let negative = entry
                .and_then(|entry| entry.failure.as_ref())
                .map(|failure| &failure.negative);
            let need = need(token.map(Arc::as_ref));
            let decision = decide(
                token.map(|token| &token.lifetime),
                negative,
                &need,
                self.0.clock.now(),
            );
            (decision, token.map(Arc::clone), need)
        };
        let entry = self.0.entries.get(key);
        if let Some(step) = self.settled(judge(entry.as_ref()), entry.as_ref()) {
            return step;
        }
        let mut flights = self.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
        // Again, now that no flight can land unseen: the one that was in the air may just have brought the token.
        let entry = self.0.entries.get(key);
        let judgement = judge(entry.as_ref());
        let (decision, token, need) = match self.settled(judgement.clone(), entry.as_ref()) {
            Some(step) => return step,
            None => judgement,
        };
        // Past its refresh point, and still good: handed out at once, whatever becomes of the renewal.
        let at_once = token
            .filter(|_| decision == Decision::ServeAndRefresh)
            .map(Step::Serve);
        let flight = match flights.get(key) {
            Some(flight) => {
                self.0.metrics.count(CacheResult::Coalesced);
                flight.clone()
            }
            None if flights.len() >= MAX_FLIGHTS => return at_once.unwrap_or(Step::Overloaded),
            None => {
                self.0.metrics.count(CacheResult::Miss);
                let flight = self.take_off(key.clone(), need, fetch());
                flights.insert(key.clone(), flight.clone());
                flight
            }
        };
        at_once.unwrap_or(Step::Wait(flight))
    }

    /// The step, where no fetch is needed for it.
    fn settled(
        &self,
        (decision, token, _need): (Decision, Option<Arc<Token<V>>>, Need),
        entry: Option<&Arc<Entry<V>>>,
    ) -> Option<Step<V>> {
        match (decision, token, entry) {
            (Decision::Serve, Some(token), _) => {
                self.0.metrics.count(CacheResult::Hit);
                Some(Step::Serve(token))
            }
            (Decision::Remembered, _, Some(entry)) => {
                self.0.metrics.count(CacheResult::Remembered);
                Some(Step::Remembered(Arc::clone(entry)))
            }
            _ => None,
        }
    }

    /// Starts the one fetch for `key`. The caller holds the lock on the flights and adds it.
    fn take_off<F>(&self, key: K, need: Need, fetch: F) -> Flight<V>
    where
        F: Future<Output = Result<Token<V>, CredentialError>> + Send + 'static,
    {
        let (landed, flight) = watch::channel(None);
        let mut landing = Landing {
            cache: self.clone(),
            key,
            need,
            outcome: None,
        };
        let journey = async move {
            landing.outcome = Some(fetch.await);
            // Store, then leave the map of flights, then tell: whoever looks in between finds the token.
            let outcome = landing.complete();
            landed.send_replace(Some(outcome));
        };
        spawn_detached(journey.instrument(tracing::Span::current()));
        flight
    }

    fn land(&self, key: &K, need: &Need, outcome: Result<Token<V>, CredentialError>) -> Outcome<V> {
        let now = self.0.clock.now();
        let before = self.0.entries.get(key);
        // Below the floor it could expire before it is used, and would be fetched anew on every request.
        let outcome = outcome.and_then(|fetched| {
            if fetched.lifetime.is_usable(now) {
                return Ok(fetched);
            }
            Err(CredentialError::new(
                Reason::UpstreamMalformed,
                "Azure issued a token that lives less than a minute",
            ))
        });
        let outcome = match outcome {
            Ok(fetched) => {
                let token = newer_of(before.as_deref(), fetched, need, now);
                self.0.entries.insert(
                    key.clone(),
                    Arc::new(Entry {
                        token: Some(Arc::clone(&token)),
                        failure: None,
                    }),
                );
                Ok(token)
            }
            // A cache below holds it and says when to ask again; remembering it here too would only add delays.
            Err(error) if error.is_remembered => Err(error),
            Err(error) => {
                let negative = after_failure(
                    before
                        .as_ref()
                        .and_then(|entry| entry.failure.as_ref())
                        .map(|failure| &failure.negative),
                    error.reason.retry_class(),
                    error.retry_after,
                    need.force,
                    now,
                    rand::random(),
                );
                let error = CredentialError {
                    is_remembered: true,
                    ..error
                };
                let failure = Failure {
                    negative,
                    error: error.clone(),
                };
                let token = before.and_then(|entry| entry.token.clone());
                self.0.entries.insert(
                    key.clone(),
                    Arc::new(Entry {
                        token,
                        failure: Some(failure),
                    }),
                );
                Err(error.retry_after(negative.retry_at.duration_since(now).unwrap_or_default()))
            }
        };
        self.0
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
        outcome
    }
}

/// A token replaces an older one only if it expires later, unless the older one was refused by the registry.
fn newer_of<V: Clone>(
    before: Option<&Entry<V>>,
    fetched: Token<V>,
    need: &Need,
    now: SystemTime,
) -> Arc<Token<V>> {
    let old = before
        .and_then(|entry| entry.token.as_ref())
        .filter(|token| token.lifetime.is_usable(now));
    match old {
        Some(old) if !need.rejected_current && old.lifetime.expires_at >= fetched.lifetime.expires_at => {
            let pause = NO_NEWER_TOKEN
                .max(old.lifetime.total() / 20)
                .min(old.lifetime.remaining(now) / 2);
            let lifetime = Lifetime {
                refresh_at: now + pause,
                ..old.lifetime
            };
            Arc::new(Token {
                value: old.value.clone(),
                lifetime,
            })
        }
        _ => Arc::new(fetched),
    }
}

#[cfg(test)]
mod tests;
