//! What a caller gets out of what is there: a token with the time to ask again, the old one flagged, or the failure.

use std::{
    fmt::Debug,
    hash::Hash,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::Reason;

use super::{Entry, Served, Token, TokenCache, UNDER_WAY};
use crate::{error::CredentialError, metrics::CacheResult};

impl<K, V> TokenCache<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn served(&self, token: Arc<Token<V>>) -> Served<V> {
        let now = self.0.clock.now();
        let refresh_at = token.lifetime.refresh_at.max(now + UNDER_WAY);
        // A renewal may have brought nothing newer; then less is left than a caller may expect.
        let degraded = !token.lifetime.satisfies(None, now);
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
        let now = self.0.clock.now();
        let entry = self.0.entries.get(key);
        let Some(token) = entry
            .and_then(|entry| entry.token.clone())
            .filter(|token| token.lifetime.is_usable(now))
        else {
            return Err(error);
        };
        let retry_at = now + error.retry_after.unwrap_or_default();
        Ok(self.degraded(token, retry_at))
    }

    pub(super) fn serve_remembered(&self, entry: &Entry<V>) -> Result<Served<V>, CredentialError> {
        let now = self.0.clock.now();
        let retry_at = entry
            .failure
            .as_ref()
            .map_or(now, |failure| failure.negative.retry_at);
        if let Some(token) = entry.token.as_ref().filter(|token| token.lifetime.is_usable(now)) {
            return Ok(self.degraded(Arc::clone(token), retry_at));
        }
        let error = entry.failure.as_ref().map_or_else(
            || CredentialError::titled(Reason::Internal),
            |failure| failure.error.clone(),
        );
        Err(error.retry_after(retry_at.duration_since(now).unwrap_or_default()))
    }

    fn degraded(&self, token: Arc<Token<V>>, retry_at: SystemTime) -> Served<V> {
        /// Least time between two tries of one caller, however soon Azure may be asked again.
        const PAUSE: Duration = Duration::from_secs(10);
        self.0.metrics.count(CacheResult::Stale);
        Served {
            token,
            degraded: true,
            refresh_at: retry_at.max(self.0.clock.now() + PAUSE),
        }
    }
}
