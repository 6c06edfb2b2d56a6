//! The three caches and what each fetch is made of: Entra token -> registry refresh token -> registry access token.
//!
//! So a second scope on a registry costs one call, and a lost Entra costs nothing while the refresh token lives.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::{Reason, types::ScopeSet};
use runtime::{Clock, Secret};

use super::{
    keys::{AccessKey, EntraKey, RegistryKey},
    payload::Payload,
};
use crate::{
    authz::TokenSource,
    azure::{Attempt, Azure, Issued},
    cache::{Bounds, Departure, Served, Token, TokenCache},
    error::CredentialError,
    expiry::{Lifetime, Need},
    metrics::Metrics,
    tenant::Tenant,
};

/// Keys of each cache at most.
const MAX_KEYS: u64 = 20_000;
/// A payload has 3 to 5 KiB, a token 1 to 2: together under 200 MiB when all three are full.
const MAX_PAYLOAD_BYTES: u64 = 96 * 1024 * 1024;
const MAX_TOKEN_BYTES: u64 = 48 * 1024 * 1024;

/// A registry says the same 401 to a token that has died and to a scope or an identity that has no rights. A token is only
/// suspected once it is this old, so that a missing role does not cost two calls with every try.
const OLD_ENOUGH_TO_BLAME: Duration = Duration::from_secs(15 * 60);

/// What a fetch further down needs: a token before its refresh point, or the best there is if there is no newer one. What
/// is made of an Entra token inherits its rights of the moment, so a newer one is worth waiting for.
const FRESH: Need = Need {
    min_remaining: None,
    has_current: true,
    rejected_current: false,
    force: false,
};
/// Any good token; one past its refresh point is renewed in the background.
const GOOD: Need = Need {
    has_current: false,
    ..FRESH
};
/// A token other than the current one.
const REJECTED: Need = Need {
    rejected_current: true,
    ..FRESH
};

/// The caches in front of Azure.
#[derive(Clone)]
pub(super) struct Chain {
    pub(super) entra: TokenCache<EntraKey, Secret>,
    pub(super) registry: TokenCache<RegistryKey, Secret>,
    pub(super) access: TokenCache<AccessKey, Payload>,
    azure: Arc<Azure>,
    clock: Arc<dyn Clock>,
}

/// On whose behalf a chain of fetches is made, from what, and how insistently.
#[derive(Clone)]
pub(super) struct Errand {
    pub(super) source: TokenSource,
    pub(super) tenant: Tenant,
    /// When what the caller holds expires.
    pub(super) held_until: Option<SystemTime>,
    /// Past remembered failures.
    pub(super) force: bool,
    /// The registry refused what the caller holds: the tokens that it was made of are suspect, too.
    pub(super) suspects: bool,
}

impl Errand {
    fn attempt(&self, departure: Departure) -> Attempt {
        Attempt {
            tenant: self.tenant.clone(),
            held_until: self.held_until,
            is_retry: departure.is_retry,
        }
    }

    fn need(&self, need: Need) -> Need {
        Need {
            force: self.force,
            ..need
        }
    }
}

impl Chain {
    pub(super) fn new(azure: Arc<Azure>, clock: Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let tokens = Bounds {
            keys: MAX_KEYS,
            bytes: MAX_TOKEN_BYTES,
        };
        let payloads = Bounds {
            bytes: MAX_PAYLOAD_BYTES,
            ..tokens
        };
        let secret_bytes = |token: &Secret| token.expose().len();
        let clock_of = || Arc::clone(&clock);
        Self {
            entra: TokenCache::new(tokens, secret_bytes, clock_of(), metrics.cache("entra")),
            registry: TokenCache::new(tokens, secret_bytes, clock_of(), metrics.cache("acr_refresh")),
            access: TokenCache::new(payloads, Payload::bytes, clock_of(), metrics.cache("acr_access")),
            azure,
            clock,
        }
    }

    /// A payload with the access token for a scope.
    pub(super) async fn scoped(
        &self,
        key: &AccessKey,
        errand: &Errand,
        need: impl Fn(Option<&Token<Payload>>) -> Need,
    ) -> Result<Served<Payload>, CredentialError> {
        let fetch = |departure| {
            let (this, key, errand) = (self.clone(), key.clone(), errand.clone());
            async move { this.fetch_payload(&key, &errand, departure).await }
        };
        self.access.get(key, &errand.tenant, need, fetch).await
    }

    /// Without a scope the payload holds the refresh token itself, with the times of that.
    pub(super) async fn registry_wide(
        &self,
        key: &RegistryKey,
        errand: &Errand,
        need: impl Fn(Option<&Payload>) -> Need,
    ) -> Result<Served<Payload>, CredentialError> {
        let payload =
            |token: &Token<Secret>| Payload::new(&key.registry, token.value.clone(), ScopeSet::default());
        let need = |current: Option<&Token<Secret>>| need(current.map(payload).as_ref());
        let served = self.registry_token(key, errand, need).await?;
        let token = Token {
            value: payload(&served.token),
            lifetime: served.token.lifetime,
        };
        Ok(Served {
            token: Arc::new(token),
            degraded: served.degraded,
            refresh_at: served.refresh_at,
        })
    }

    async fn fetch_payload(
        &self,
        key: &AccessKey,
        errand: &Errand,
        departure: Departure,
    ) -> Result<Token<Payload>, CredentialError> {
        let registry = &key.registry.registry;
        let attempt = errand.attempt(departure);
        let need = errand.need(GOOD);
        let refresh_token = self
            .registry_token(&key.registry, errand, |_current| need)
            .await?
            .token;
        let access_token = |token: Secret| {
            let attempt = &attempt;
            async move {
                self.azure
                    .access_token(registry, &token, &key.scopes, attempt)
                    .await
            }
        };
        let (issued, granted) = match access_token(refresh_token.value.clone()).await {
            // Died early, perhaps: a mode switch of the registry ends every token issued before it. Once more with a
            // new one, unless this one is too new to blame.
            Err(error)
                if error.reason == Reason::ScopeRejected && self.is_suspect(&refresh_token, errand) =>
            {
                let newer = self
                    .registry_token(&key.registry, errand, |_current| REJECTED)
                    .await?
                    .token;
                if newer.value.expose() == refresh_token.value.expose() {
                    return Err(error);
                }
                access_token(newer.value.clone()).await?
            }
            issued => issued?,
        };
        if granted.is_empty() {
            return Err(CredentialError::new(
                Reason::ScopeRejected,
                format!("registry {registry} granted nothing of the scope"),
            ));
        }
        let payload = Payload::new(registry, issued.token, granted);
        Ok(self.times(payload, issued.expires_at))
    }

    async fn registry_token(
        &self,
        key: &RegistryKey,
        errand: &Errand,
        need: impl Fn(Option<&Token<Secret>>) -> Need,
    ) -> Result<Served<Secret>, CredentialError> {
        let fetch = |departure| {
            let (this, key, errand) = (self.clone(), key.clone(), errand.clone());
            async move { this.fetch_registry_token(&key, &errand, departure).await }
        };
        self.registry.get(key, &errand.tenant, need, fetch).await
    }

    async fn fetch_registry_token(
        &self,
        key: &RegistryKey,
        errand: &Errand,
        departure: Departure,
    ) -> Result<Token<Secret>, CredentialError> {
        let attempt = errand.attempt(departure);
        let entra_token = self.entra_token(&key.entra, errand, errand.need(FRESH)).await?;
        let exchanged = self
            .azure
            .refresh_token(&key.registry, &entra_token.value, &attempt)
            .await;
        let issued = match exchanged {
            // What an identity may do follows from groups that are written into its token: once more with a new one.
            Err(error)
                if error.reason == Reason::RegistryUnauthorized && self.is_suspect(&entra_token, errand) =>
            {
                let newer = self.entra_token(&key.entra, errand, REJECTED).await?;
                if newer.value.expose() == entra_token.value.expose() {
                    return Err(error);
                }
                self.azure
                    .refresh_token(&key.registry, &newer.value, &attempt)
                    .await?
            }
            issued => issued?,
        };
        Ok(self.token(issued))
    }

    async fn entra_token(
        &self,
        key: &EntraKey,
        errand: &Errand,
        need: Need,
    ) -> Result<Arc<Token<Secret>>, CredentialError> {
        let fetch = |departure| {
            let (this, errand) = (self.clone(), errand.clone());
            async move {
                let attempt = errand.attempt(departure);
                let issued = this.azure.entra_token(&errand.source, &attempt).await?;
                Ok(this.token(issued))
            }
        };
        let served = self
            .entra
            .get(key, &errand.tenant, |_current| need, fetch)
            .await?;
        Ok(served.token)
    }

    fn is_suspect(&self, token: &Token<Secret>, errand: &Errand) -> bool {
        errand.suspects || token.lifetime.age(self.clock.moment()) >= OLD_ENOUGH_TO_BLAME
    }

    fn token(&self, issued: Issued) -> Token<Secret> {
        self.times(issued.token, issued.expires_at)
    }

    fn times<V>(&self, value: V, expires_at: SystemTime) -> Token<V> {
        Token {
            value,
            lifetime: Lifetime::new(self.clock.moment(), expires_at, rand::random()),
        }
    }
}
