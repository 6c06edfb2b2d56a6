//! Every key the simulator signs with: Entra's, ACR's, and those of issuers that exist only here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::jwt::{JwkSet, KeyError, SigningKey};

/// Signing keys, made at start; those of issuers when first needed.
pub(crate) struct Keys {
    /// Signs Entra access tokens.
    pub(crate) entra: SigningKey,
    /// Signs ACR refresh and access tokens.
    pub(crate) acr: SigningKey,
    issuers: Mutex<HashMap<(String, String), Arc<SigningKey>>>,
}

impl Keys {
    /// Makes the keys of Entra and ACR.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        Ok(Self {
            entra: SigningKey::generate("entra-1")?,
            acr: SigningKey::generate("acr-1")?,
            issuers: Mutex::default(),
        })
    }

    /// The keys that Entra publishes.
    pub(crate) fn entra_jwks(&self) -> JwkSet {
        JwkSet {
            keys: vec![self.entra.public().clone()],
        }
    }

    /// The key that a real registry must trust.
    pub(crate) fn acr_jwks(&self) -> JwkSet {
        JwkSet {
            keys: vec![self.acr.public().clone()],
        }
    }

    /// The key of a simulated issuer, made now if it is the first time.
    pub(crate) fn of_issuer(&self, issuer: &str, kid: &str) -> Result<Arc<SigningKey>, KeyError> {
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        let id = (issuer.to_owned(), kid.to_owned());
        if let Some(key) = issuers.get(&id) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(SigningKey::generate(kid)?);
        issuers.insert(id, Arc::clone(&key));
        Ok(key)
    }

    /// The keys that a simulated issuer publishes.
    pub(crate) fn issuer_jwks(&self, issuer: &str, kids: &[String]) -> Result<JwkSet, KeyError> {
        let public = |kid: &String| self.of_issuer(issuer, kid).map(|key| key.public().clone());
        Ok(JwkSet {
            keys: kids.iter().map(public).collect::<Result<_, _>>()?,
        })
    }
}
