//! What a caller gets out of what is there: a token with the time to ask again, the old one flagged, or the failure.

use std::{
    fmt::Debug,
    hash::Hash,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::Reason;
use runtime::Moment;

use super::{Again, Entry, Served, Token, TokenCache, UNDER_WAY};
use crate::{
    error::CredentialError,
    expiry::{CAUSED_PERIOD, FLOOR, Lifetime},
    metrics::CacheResult,
};

/// Least time between two tries of one caller, however soon Azure may be asked again ...
const PAUSE: Duration = Duration::from_secs(10);
/// ... or this part of what is left: many holders of a token that cannot be renewed must not ask every few seconds.
const PAUSE_SHARE: u32 = 20;

impl<K, V> TokenCache<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn served(&self, token: Arc<Token<V>>, again: Again) -> Served<V> {
        let now = self.0.clock.moment();
        let soon_enough = |refresh_at| in_time(refresh_at, &token.lifetime, now);
        let refresh_at = match again {
            // Well before its end, by nature.
            Again::WhenDue => token.lifetime.refresh_at(now).max(now.wall + UNDER_WAY),
            Again::NotBefore(at) => soon_enough(now.wall + at.saturating_sub(now.monotonic)),
            Again::Soon => soon_enough(now.wall + CAUSED_PERIOD),
        };
        // A renewal may have brought nothing newer; then less is left than a caller may expect.
        let degraded = matches!(again, Again::Soon) || !token.lifetime.satisfies(None, now);
        Served {
            token,
            degraded,
            refresh_at,
        }
    }

    /// The renewal failed: the old token is handed out for as long as it may be.
    pub(super) fn serve_despite(
        &self,
        key: &K,
        error: CredentialError,
    ) -> Result<Served<V>, CredentialError> {
        let now = self.0.clock.moment();
        let entry = self.0.store.get(key);
        match entry.as_ref().and_then(|entry| entry.usable_token(now)) {
            Some(token) => Ok(self.degraded(token, error.retry_after.unwrap_or_default(), now)),
            None => Err(error),
        }
    }

    pub(super) fn serve_remembered(&self, entry: &Entry<V>) -> Result<Served<V>, CredentialError> {
        let now = self.0.clock.moment();
        let wait = entry
            .record
            .negative
            .map(|negative| negative.retry_at.saturating_sub(now.monotonic))
            .unwrap_or_default();
        if let Some(token) = entry.usable_token(now) {
            return Ok(self.degraded(token, wait, now));
        }
        let error = entry
            .error
            .clone()
            .unwrap_or_else(|| CredentialError::titled(Reason::Internal));
        Err(error.retry_after(wait))
    }

    fn degraded(&self, token: &Arc<Token<V>>, wait: Duration, now: Moment) -> Served<V> {
        self.0.metrics.count(CacheResult::Stale);
        let pause = PAUSE.max(token.lifetime.remaining(now) / PAUSE_SHARE);
        Served {
            token: Arc::clone(token),
            degraded: true,
            refresh_at: in_time(now.wall + wait.max(pause), &token.lifetime, now),
        }
    }
}

/// However long Azure is not to be asked: a caller comes back while its token still counts for something, for another
/// replica may have a newer one.
fn in_time(refresh_at: SystemTime, lifetime: &Lifetime, now: Moment) -> SystemTime {
    let last_call = now.wall + lifetime.remaining(now).saturating_sub(FLOOR);
    refresh_at.min(last_call).max(now.wall + PAUSE)
}
