//! Who asks: a bearer token to a [`Caller`], a subject token to a [`Subject`]. On every request, hit or miss.
//!
//! `iss` selects the candidate clusters and nothing else; **the key that verified the signature selects the one**
//! (many clusters share an issuer, and no two of those use the same key). Nothing is ever discovered from a token.
//!
//! Verified tokens are remembered for a while (`memory.rs`), which saves the signature check and nothing more.

mod jwks_fetch;
mod key_claims;
mod key_contests;
mod key_files;
mod key_holdings;
mod key_refresh;
mod key_ring;
mod key_store;
mod keys;
mod memory;
mod service_account;
#[cfg(test)]
pub(crate) mod test_keys;
mod token;
mod unknown_keys;

use std::sync::Arc;

use runtime::{Clock, clock::Moment};

use crate::config::ClusterConfig;
pub use key_files::{KeyFile, KeyFileError, KeyFiles};
pub use key_refresh::keep_fresh;
pub use key_ring::{KeyRing, Member};
pub use key_store::{Fetches, KeyStore};
pub use keys::{KeySet, KeySetError};
use memory::{Memory, Verified};
pub use service_account::ServiceAccount;
pub use token::TokenError;
use token::{Purpose, verify};
use unknown_keys::UnknownKeys;

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
    /// By what it was recognised.
    pub evidence: Arc<Evidence>,
}

/// By what a caller was recognised, for the audit. Nothing is decided by it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// `kid` of the key that verified the token.
    pub key_id: Option<String>,
    /// What tells that key from others, whatever it is called.
    pub key_thumbprint: String,
    /// `jti` of the token.
    pub token_id: Option<String>,
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
    memory: Memory,
    unknown_keys: UnknownKeys,
    clock: Arc<dyn Clock>,
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

impl Authenticator {
    /// An authenticator for these clusters.
    pub fn new(clusters: Vec<Arc<Cluster>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            clusters,
            memory: Memory::new(),
            unknown_keys: UnknownKeys::default(),
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
            evidence: Arc::clone(&verified.evidence),
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
        let account =
            ServiceAccount::parse(&subject).ok_or(AuthnError::Subject(TokenError::NotAServiceAccount))?;
        Ok(Subject {
            namespace: account.namespace.into(),
            name: account.name.into(),
            audiences: verified.claims.among(&verified.cluster.config.subject_audiences),
            subject: Arc::clone(&subject),
        })
    }

    fn verify(&self, token: &str, purpose: Purpose) -> Result<Arc<Verified>, TokenError> {
        let now = self.clock.moment();
        let hash = memory::hash(token);
        let verified = if let Some(verified) = self.memory.recall(&hash, now) {
            verified
        } else {
            let verified = Arc::new(self.verify_signature(token, now)?);
            self.memory.remember(hash, Arc::clone(&verified));
            verified
        };
        // Signature apart, nothing is taken from memory: time and purpose are judged on every request.
        verified
            .claims
            .check(purpose, &verified.cluster.config, now.wall)?;
        Ok(verified)
    }

    fn verify_signature(&self, token: &str, now: Moment) -> Result<Verified, TokenError> {
        let unverified = token::read_unverified(token)?;
        let of_issuer = || {
            self.clusters
                .iter()
                .filter(|cluster| cluster.config.issuer == unverified.issuer)
        };
        if of_issuer().next().is_none() {
            return Err(TokenError::UnknownIssuer);
        }
        let key_id = unverified.key_id.as_deref();
        let (mut keys_missing, mut is_forged, mut strangers) = (false, false, Vec::new());
        for cluster in of_issuer() {
            let Some(keys) = cluster.keys.current() else {
                keys_missing = true;
                continue;
            };
            for key in keys.matching(key_id, unverified.algorithm) {
                match verify(token, key) {
                    // The next key, or the next cluster with one of the same name.
                    Err(TokenError::Signature) => {}
                    // This key has signed it, and what it has signed is this.
                    signed => {
                        return signed.map(|claims| Verified {
                            cluster: Arc::clone(cluster),
                            keys: Arc::clone(&keys),
                            evidence: Arc::new(key.evidence(&claims)),
                            claims,
                            at: now,
                        });
                    }
                }
            }
            if !keys.has(key_id) {
                strangers.push(&cluster.keys);
            } else if key_id.is_some() {
                // API servers name a key by its digest: whose it says it is, it is not, and nobody else's either.
                is_forged = true;
            }
        }
        if !strangers.is_empty() {
            let all: Vec<_> = of_issuer().map(|cluster| &cluster.keys).collect();
            self.unknown_keys.noticed(&all, &strangers, now.monotonic);
        }
        Err(if keys_missing && !is_forged {
            TokenError::KeysUnavailable
        } else {
            TokenError::Signature
        })
    }
}

#[cfg(test)]
mod tests;
