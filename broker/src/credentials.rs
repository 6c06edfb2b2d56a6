//! The use case, top to bottom: a [`Permit`] to the content of a pull Secret, through three caches.
//!
//! Entra token -> registry refresh token -> registry access token, each cached and fetched once for all who wait. So a
//! second scope on a registry costs one call, and a lost Entra costs nothing while the refresh token lives.

mod keys;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use proto::{
    Fingerprint, Reason,
    types::{RegistryHost, ScopeSet},
};
use runtime::{Clock, Secret};

use crate::{
    authz::{Permit, TokenSource},
    azure::{Attempt, Azure, Issued},
    cache::{Served, Token, TokenCache},
    docker_config,
    error::CredentialError,
    expiry::{Lifetime, Need},
    metrics::Metrics,
    request::Wish,
};
use keys::{AccessKey, EntraKey, RegistryKey};

/// Bound of each cache. At about 6 KiB for a token and its payload, room for 10,000 keys and more in all three together.
const MAX_CACHE_BYTES: u64 = 80 * 1024 * 1024;
/// How much later than the one a caller holds a token must expire to be worth a write, as a share of its lifetime
/// (guarantee S8: replicas with different tokens cause no churn).
const WORTH_A_WRITE: f64 = 0.10;

/// A registry says the same 401 to a token that has died and to a scope that is not granted. A refresh token is only
/// suspected once it is this old, so that a missing role does not cost two exchanges with every try.
const OLD_ENOUGH_TO_BLAME: Duration = Duration::from_secs(15 * 60);

/// Hands out credentials.
#[derive(Clone)]
pub struct Credentials {
    entra: TokenCache<EntraKey, Secret>,
    registry: TokenCache<RegistryKey, Secret>,
    access: TokenCache<AccessKey, Payload>,
    azure: Arc<Azure>,
    clock: Arc<dyn Clock>,
}

/// A rendered `.dockerconfigjson`.
#[derive(Clone)]
struct Payload {
    bytes: Bytes,
    fingerprint: Fingerprint,
    granted: ScopeSet,
}

impl Payload {
    fn of(registry: &RegistryHost, token: &Secret, granted: ScopeSet) -> Self {
        let bytes = docker_config::render(registry, token);
        let fingerprint = Fingerprint::of(&bytes);
        Self {
            bytes,
            fingerprint,
            granted,
        }
    }
}

/// What the caller gets.
pub struct DockerConfig {
    /// The payload, unless what the caller holds is still the best there is.
    pub payload: Option<Bytes>,
    /// Of the payload that the caller holds after this.
    pub fingerprint: Fingerprint,
    /// When that expires.
    pub expires_at: SystemTime,
    /// When to ask again.
    pub refresh_at: SystemTime,
    /// It was due for renewal and could not be renewed.
    pub degraded: bool,
    /// What the registry granted of the scope that was asked for.
    pub granted: ScopeSet,
}

impl Credentials {
    /// Empty caches in front of `azure`.
    pub fn new(azure: Arc<Azure>, clock: Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let secret_bytes = |token: &Secret| token.expose().len();
        Self {
            entra: TokenCache::new(
                MAX_CACHE_BYTES,
                secret_bytes,
                Arc::clone(&clock),
                metrics.cache("entra"),
            ),
            registry: TokenCache::new(
                MAX_CACHE_BYTES,
                secret_bytes,
                Arc::clone(&clock),
                metrics.cache("acr_refresh"),
            ),
            access: TokenCache::new(
                MAX_CACHE_BYTES,
                |payload| payload.bytes.len(),
                Arc::clone(&clock),
                metrics.cache("acr_access"),
            ),
            azure,
            clock,
        }
    }

    /// The content of a pull Secret for what the permit allows.
    ///
    /// # Errors
    /// Azure said no, could not be reached, or answered nonsense, and there is no earlier token to fall back on.
    ///
    /// # Cancel safety
    /// Cancel safe: what has been started is finished for whoever asks next.
    pub async fn docker_config(&self, permit: &Permit, wish: &Wish) -> Result<DockerConfig, CredentialError> {
        let key = AccessKey::of(permit);
        let source = permit.source();
        let attempt = Attempt {
            tenant: permit.tenant().clone(),
            held_until: wish.held.map(|held| held.expires_at),
            is_retry: false,
        };
        let served = if key.scopes.is_empty() {
            self.registry_wide(&key.registry, source, wish, attempt).await?
        } else {
            let need =
                |current: Option<&Token<Payload>>| need(wish, current.map(|token| token.value.fingerprint));
            let fetch = || {
                let (this, key, source, force) = (self.clone(), key.clone(), source.clone(), wish.force);
                async move { this.fetch_payload(&key, source, force, attempt).await }
            };
            self.access.get(&key, need, fetch).await?
        };
        Ok(self.answer(&served, wish))
    }

    /// Without a scope the payload holds the refresh token itself, with the times of that.
    async fn registry_wide(
        &self,
        key: &RegistryKey,
        source: &TokenSource,
        wish: &Wish,
        attempt: Attempt,
    ) -> Result<Served<Payload>, CredentialError> {
        let payload = |token: &Secret| Payload::of(&key.registry, token, ScopeSet::default());
        let need = |current: Option<&Token<Secret>>| {
            need(wish, current.map(|token| payload(&token.value).fingerprint))
        };
        let served = self
            .registry
            .get(key, need, || {
                self.clone()
                    .fetch_registry_token(key.clone(), source.clone(), wish.force, attempt)
            })
            .await?;
        let token = Token {
            value: payload(&served.token.value),
            lifetime: served.token.lifetime,
        };
        Ok(Served {
            token: Arc::new(token),
            degraded: served.degraded,
            refresh_at: served.refresh_at,
        })
    }

    /// Drops what has been evicted, so that it is wiped. To be called every few seconds.
    pub fn maintain(&self) {
        self.entra.maintain();
        self.registry.maintain();
        self.access.maintain();
    }

    fn answer(&self, served: &Served<Payload>, wish: &Wish) -> DockerConfig {
        let token = &served.token;
        let fresh = DockerConfig {
            payload: Some(token.value.bytes.clone()),
            fingerprint: token.value.fingerprint,
            expires_at: token.lifetime.expires_at,
            refresh_at: served.refresh_at,
            degraded: served.degraded,
            granted: token.value.granted.clone(),
        };
        let Some(held) = wish.held else { return fresh };
        if held.fingerprint == token.value.fingerprint {
            return DockerConfig {
                payload: None,
                ..fresh
            };
        }
        // Another replica's token, or an older one of ours: good enough unless this one lasts notably longer.
        let held_lifetime = Lifetime {
            expires_at: held.expires_at,
            ..token.lifetime
        };
        let is_good = wish.rejected != Some(held.fingerprint)
            && held_lifetime.satisfies(wish.min_remaining, self.clock.now())
            && token
                .lifetime
                .expires_at
                .duration_since(held.expires_at)
                .unwrap_or_default()
                < token.lifetime.total().mul_f64(WORTH_A_WRITE);
        if is_good {
            return DockerConfig {
                payload: None,
                fingerprint: held.fingerprint,
                expires_at: held.expires_at,
                ..fresh
            };
        }
        fresh
    }

    async fn fetch_payload(
        &self,
        key: &AccessKey,
        source: TokenSource,
        force: bool,
        attempt: Attempt,
    ) -> Result<Token<Payload>, CredentialError> {
        let registry = &key.registry.registry;
        let refresh_token = self
            .registry_token(&key.registry, source.clone(), Need { force, ..FRESH }, &attempt)
            .await?;
        let (issued, granted) = match self
            .azure
            .access_token(registry, &refresh_token.value, &key.scopes, &attempt)
            .await
        {
            // Died early, perhaps: a mode switch of the registry ends every token issued before it. Once more with a
            // new one, unless this one is too new to blame.
            Err(error) if error.reason == Reason::ScopeRejected && self.is_old(&refresh_token) => {
                let newer = self
                    .registry_token(&key.registry, source, REJECTED, &attempt)
                    .await?;
                if newer.lifetime == refresh_token.lifetime {
                    return Err(error);
                }
                self.azure
                    .access_token(registry, &newer.value, &key.scopes, &attempt)
                    .await?
            }
            issued => issued?,
        };
        if granted.is_empty() {
            return Err(CredentialError::new(
                Reason::ScopeRejected,
                format!("registry {registry} granted nothing of the scope"),
            ));
        }
        Ok(self.payload(key, &issued, granted))
    }

    async fn registry_token(
        &self,
        key: &RegistryKey,
        source: TokenSource,
        need: Need,
        attempt: &Attempt,
    ) -> Result<Arc<Token<Secret>>, CredentialError> {
        let fetch = || {
            self.clone()
                .fetch_registry_token(key.clone(), source, need.force, attempt.clone())
        };
        Ok(self.registry.get(key, |_current| need, fetch).await?.token)
    }

    async fn fetch_registry_token(
        self,
        key: RegistryKey,
        source: TokenSource,
        force: bool,
        attempt: Attempt,
    ) -> Result<Token<Secret>, CredentialError> {
        let entra_token = self
            .entra_token(&key.entra, source, Need { force, ..FRESH }, attempt.clone())
            .await?;
        let issued = self
            .azure
            .refresh_token(&key.registry, &entra_token.value, &attempt)
            .await?;
        Ok(self.token(issued))
    }

    fn is_old(&self, token: &Token<Secret>) -> bool {
        let age = self.clock.now().duration_since(token.lifetime.received_at);
        age.is_ok_and(|age| age >= OLD_ENOUGH_TO_BLAME)
    }

    async fn entra_token(
        &self,
        key: &EntraKey,
        source: TokenSource,
        need: Need,
        attempt: Attempt,
    ) -> Result<Arc<Token<Secret>>, CredentialError> {
        let served = self
            .entra
            .get(
                key,
                |_current| need,
                || {
                    let this = self.clone();
                    async move { Ok(this.token(this.azure.entra_token(&source, &attempt).await?)) }
                },
            )
            .await?;
        Ok(served.token)
    }

    fn payload(&self, key: &AccessKey, issued: &Issued, granted: ScopeSet) -> Token<Payload> {
        self.times(
            Payload::of(&key.registry.registry, &issued.token, granted),
            issued.expires_at,
        )
    }

    fn token(&self, issued: Issued) -> Token<Secret> {
        self.times(issued.token, issued.expires_at)
    }

    fn times<V>(&self, value: V, expires_at: SystemTime) -> Token<V> {
        Token {
            value,
            lifetime: Lifetime::new(self.clock.now(), expires_at, rand::random()),
        }
    }
}

/// What a caller's wish asks of the current token, told apart by its fingerprint.
fn need(wish: &Wish, current: Option<Fingerprint>) -> Need {
    let is_current = |fingerprint| current == Some(fingerprint);
    Need {
        min_remaining: wish.min_remaining,
        has_current: wish.held.is_some_and(|held| is_current(held.fingerprint)),
        rejected_current: wish.rejected.is_some_and(is_current),
        force: wish.force,
    }
}

/// What a fetch further down needs: a token before its refresh point, or the best there is if there is no newer one.
const FRESH: Need = Need {
    min_remaining: None,
    has_current: true,
    rejected_current: false,
    force: false,
};
/// A token other than the current one.
const REJECTED: Need = Need {
    min_remaining: None,
    has_current: true,
    rejected_current: true,
    force: false,
};
