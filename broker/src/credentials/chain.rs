//! The three caches and what each fetch is made of: Entra token -> registry refresh token -> registry access token.
//!
//! What stands below the first where an identity becomes an application is in [`entra_level`].
//!
//! So a second scope on a registry costs one call, and a lost Entra costs nothing while the refresh token lives.

mod entra_level;

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
/// suspected once it is this old: sooner where what is made of it has worked before, and late where it never has, so that
/// what is simply not granted costs few calls more (guarantee U5).
const OLD_ENOUGH_TO_BLAME: Duration = Duration::from_secs(15 * 60);
const OLD_ENOUGH_TO_BLAME_FOR_WHAT_NEVER_WORKED: Duration = Duration::from_secs(60 * 60);

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
        let blamed_at = blamed_at(departure, Reason::ScopeRejected);
        let need = |current: Option<&Token<Secret>>| self.need_of(GOOD, current, blamed_at, errand);
        let refresh_token = self.registry_token(&key.registry, errand, need).await?.token;
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
            // new one, if the caller has seen that as well, or if it has worked so far and is old enough to blame.
            Err(error)
                if error.reason == Reason::ScopeRejected
                    && (errand.suspects
                        || (departure.has_worked
                            && departure.failed_before.is_none()
                            && self.age(&refresh_token) >= OLD_ENOUGH_TO_BLAME)) =>
            {
                let another = Need {
                    rejected_current: true,
                    ..FRESH
                };
                let newer = self
                    .registry_token(&key.registry, errand, |_current| another)
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
        // What an identity may do can follow from groups, and those are written into its token.
        let blamed_at = blamed_at(departure, Reason::RegistryUnauthorized);
        let need = |current: Option<&Token<Secret>>| self.need_of(FRESH, current, blamed_at, errand);
        let entra_token = self.entra_token(&key.entra, errand, need).await?;
        let issued = self
            .azure
            .refresh_token(&key.registry, &entra_token.value, &attempt)
            .await?;
        Ok(self.token(issued))
    }

    /// What is asked of a token further down: another one, if it is blamed at its age.
    fn need_of(
        &self,
        need: Need,
        current: Option<&Token<Secret>>,
        blamed_at: Option<Duration>,
        errand: &Errand,
    ) -> Need {
        let is_blamed = current
            .zip(blamed_at)
            .is_some_and(|(token, age)| self.age(token) >= age);
        Need {
            rejected_current: is_blamed,
            force: errand.force,
            ..need
        }
    }

    fn age(&self, token: &Token<Secret>) -> Duration {
        token.lifetime.age(self.clock.moment())
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

/// From which age on a token is blamed for what was made of it, if that failed for this reason.
fn blamed_at(departure: Departure, reason: Reason) -> Option<Duration> {
    let age = if departure.has_worked {
        OLD_ENOUGH_TO_BLAME
    } else {
        OLD_ENOUGH_TO_BLAME_FOR_WHAT_NEVER_WORKED
    };
    (departure.failed_before == Some(reason)).then_some(age)
}
