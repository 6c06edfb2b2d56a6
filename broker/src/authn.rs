//! Who asks: a bearer token to a [`Caller`], a subject token to a [`Subject`]. On every request, hit or miss.
//!
//! `iss` selects the candidate clusters and nothing else; **the key that verified the signature selects the one**
//! (many clusters share an issuer, none share a key). Nothing is ever discovered from a token.
//!
//! Verified tokens are remembered by their SHA-256 until they expire, which saves the signature check and nothing
//! more: expiry is checked each time, and what replaced keys have vouched for is verified anew.

mod jwks_fetch;
mod key_refresh;
mod key_ring;
mod key_store;
mod keys;
#[cfg(test)]
pub(crate) mod test_keys;
mod token;

use std::{sync::Arc, time::SystemTime};

use aws_lc_rs::digest;
use moka::{policy::EvictionPolicy, sync::Cache};
use runtime::Clock;

use crate::config::ClusterConfig;
pub use key_refresh::keep_fresh;
pub use key_ring::{KeyRing, Member, SharedKey};
pub use key_store::{Fetches, KeyStore};
pub use keys::{KeySet, KeySetError};
pub use token::TokenError;
use token::{Claims, Purpose, verify};

/// Tokens remembered at most. Each costs about 300 bytes; a cluster of 10,000 bindings presents one caller token and
/// at most 10,000 subject tokens, each once per refresh.
const REMEMBERED_TOKENS: u64 = 20_000;

/// A configured cluster and its keys of the moment.
#[derive(Debug)]
pub struct Cluster {
    /// What the file says.
    pub config: ClusterConfig,
    /// Its keys.
    pub keys: KeyStore,
}

/// An authenticated caller. What it may do follows from its roles: [`access`](crate::access).
#[derive(Debug, Clone)]
pub struct Caller {
    /// The cluster whose key signed the token.
    pub cluster: Arc<Cluster>,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub subject: Arc<str>,
}

/// A ServiceAccount whose token the caller holds.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The `sub` claim, for Entra and for cache keys.
    pub subject: Arc<str>,
    /// Those subject audiences of its cluster that its token is for, in the order of the configuration. Entra matches them
    /// too, so a token for another one is another question to it.
    pub audiences: Arc<[String]>,
    /// The ServiceAccount's namespace.
    pub namespace: Box<str>,
    /// The ServiceAccount's name.
    pub name: Box<str>,
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Authenticator {
    clusters: Vec<Arc<Cluster>>,
    remembered: Cache<[u8; digest::SHA256_OUTPUT_LEN], Arc<Verified>>,
    clock: Arc<dyn Clock>,
}

/// What is known of a token once its signature has been verified.
#[derive(Debug)]
struct Verified {
    cluster: Arc<Cluster>,
    /// The set that the verifying key was in: a memory of keys that have been replaced is none.
    keys: Arc<KeySet>,
    claims: Claims,
}

/// Why a token is refused. The texts tell a caller no more than it already knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthnError {
    /// The caller's own token.
    #[error("the caller's token was not accepted: {0}")]
    Caller(TokenError),
    /// The subject token.
    #[error("the ServiceAccount's token was not accepted: {0}")]
    Subject(TokenError),
}

impl Verified {
    fn is_by_current_keys(&self) -> bool {
        self.cluster
            .keys
            .current()
            .is_some_and(|keys| Arc::ptr_eq(&keys, &self.keys))
    }
}

impl Authenticator {
    /// An authenticator for these clusters.
    pub fn new(clusters: Vec<Arc<Cluster>>, clock: Arc<dyn Clock>) -> Self {
        let remembered = Cache::builder()
            .max_capacity(REMEMBERED_TOKENS)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self {
            clusters,
            remembered,
            clock,
        }
    }

    /// The clusters.
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.clusters
    }

    /// Authenticates a caller by its bearer token.
    ///
    /// # Errors
    /// Not a token of a configured cluster for a caller audience.
    pub fn caller(&self, token: &str) -> Result<Caller, AuthnError> {
        let verified = self.verify(token, Purpose::Caller).map_err(AuthnError::Caller)?;
        Ok(Caller {
            cluster: Arc::clone(&verified.cluster),
            subject: Arc::clone(&verified.claims.subject),
        })
    }

    /// Authenticates the ServiceAccount that a federated request acts for. Its token must be of the caller's cluster.
    ///
    /// # Errors
    /// Not a token of that cluster for a subject audience, or not of a ServiceAccount.
    pub fn subject(&self, token: &str, caller: &Caller) -> Result<Subject, AuthnError> {
        let verified = self
            .verify(token, Purpose::Subject)
            .map_err(AuthnError::Subject)?;
        if !Arc::ptr_eq(&verified.cluster, &caller.cluster) {
            return Err(AuthnError::Subject(TokenError::OtherCluster));
        }
        let subject = Arc::clone(&verified.claims.subject);
        let (namespace, name) = subject
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'))
            .ok_or(AuthnError::Subject(TokenError::NotAServiceAccount))?;
        Ok(Subject {
            namespace: namespace.into(),
            name: name.into(),
            audiences: verified.claims.among(&verified.cluster.config.subject_audiences),
            subject: Arc::clone(&subject),
        })
    }

    fn verify(&self, token: &str, purpose: Purpose) -> Result<Arc<Verified>, TokenError> {
        let now = self.clock.now();
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let remembered = self
            .remembered
            .get(&hash)
            .filter(|verified| verified.is_by_current_keys());
        let verified = if let Some(verified) = remembered {
            verified
        } else {
            let verified = Arc::new(self.verify_signature(token, now)?);
            self.remembered.insert(hash, Arc::clone(&verified));
            verified
        };
        // Signature apart, nothing is taken from memory: time and purpose are judged on every request.
        verified.claims.check(purpose, &verified.cluster.config, now)?;
        Ok(verified)
    }

    fn verify_signature(&self, token: &str, now: SystemTime) -> Result<Verified, TokenError> {
        let unverified = token::read_unverified(token)?;
        let mut candidates = self
            .clusters
            .iter()
            .filter(|cluster| cluster.config.issuer == unverified.issuer)
            .peekable();
        if candidates.peek().is_none() {
            return Err(TokenError::UnknownIssuer);
        }
        let (mut keys_missing, mut strangers) = (false, Vec::new());
        for cluster in candidates {
            let Some(keys) = cluster.keys.current() else {
                keys_missing = true;
                continue;
            };
            for key in keys.matching(unverified.key_id.as_deref(), unverified.algorithm) {
                if let Ok(claims) = verify(token, key) {
                    return Ok(Verified {
                        cluster: Arc::clone(cluster),
                        keys: Arc::clone(&keys),
                        claims,
                    });
                }
            }
            if !keys.has(unverified.key_id.as_deref()) {
                strangers.push(cluster);
            }
        }
        // Nobody's key: perhaps one of these clusters has a new one.
        for cluster in strangers {
            cluster.keys.miss(now);
        }
        Err(if keys_missing {
            TokenError::KeysUnavailable
        } else {
            TokenError::Signature
        })
    }
}

#[cfg(test)]
mod tests;
