//! A fetch from its start to its landing, also when it panics.

use std::{fmt::Debug, hash::Hash, sync::PoisonError};

use proto::Reason;

use super::{Flight, Outcome, Token, TokenCache};
use crate::{error::CredentialError, expiry::Need};

/// Makes sure that a flight ends: also one whose fetch panicked.
pub(super) struct Landing<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) cache: TokenCache<K, V>,
    pub(super) key: K,
    pub(super) need: Need,
    pub(super) outcome: Option<Result<Token<V>, CredentialError>>,
}

impl<K, V> Landing<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn complete(mut self) -> Outcome<V> {
        let outcome = self
            .outcome
            .take()
            .unwrap_or_else(|| Err(CredentialError::titled(Reason::Internal)));
        // Leaves nothing for `drop` to do: the key is out of the map of flights.
        self.cache.land(&self.key, &self.need, outcome)
    }
}

impl<K, V> Drop for Landing<K, V>
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        let is_in_the_air = self
            .cache
            .0
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&self.key);
        if std::thread::panicking() && is_in_the_air {
            tracing::error!(key = ?self.key, "a fetch panicked");
            if self
                .cache
                .land(
                    &self.key,
                    &self.need,
                    Err(CredentialError::titled(Reason::Internal)),
                )
                .is_ok()
            {
                tracing::debug!("unreachable: an error landed as a token");
            }
        }
    }
}

/// Waits for a flight to land. A sender that is gone without a word belonged to a fetch that panicked.
pub(super) async fn arrival<V: Clone>(mut flight: Flight<V>) -> Outcome<V> {
    match flight.wait_for(Option::is_some).await {
        Ok(outcome) => outcome
            .clone()
            .unwrap_or_else(|| Err(CredentialError::titled(Reason::Internal))),
        Err(_sender_gone) => Err(CredentialError::titled(Reason::Internal)),
    }
}
