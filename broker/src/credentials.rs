//! The use case, top to bottom: a [`Permit`] to a credential, through three caches.

mod chain;
mod keys;
mod payload;

use std::{sync::Arc, time::SystemTime};

use proto::{
    Fingerprint,
    types::{RegistryHost, ScopeSet},
};
use runtime::{Clock, Moment};

use crate::{
    authz::Permit,
    azure::Azure,
    cache::{KeyState, Served, Token},
    error::CredentialError,
    expiry::{FLOOR, Need},
    metrics::Metrics,
    request::{Held, Wish},
};
use chain::{Chain, Errand};
use keys::{AccessKey, EntraKey};
pub use payload::Payload;

/// How much later than the one a caller holds a token must expire to be worth a write, as a share of its lifetime
/// (guarantee S8: replicas with different tokens cause no churn). Where many hold one key, each replica's token is of
/// another age: at a tenth of the life, half of the writes would replace what is good for long.
const WORTH_A_WRITE: f64 = 0.30;

/// Hands out credentials.
#[derive(Clone)]
pub struct Credentials {
    chain: Chain,
    clock: Arc<dyn Clock>,
}

/// What the caller gets.
pub struct Credential {
    /// The payload, unless what the caller holds is still the best there is.
    pub payload: Option<Payload>,
    /// Of the payload that the caller holds after this.
    pub fingerprint: Fingerprint,
    /// When that expires.
    pub expires_at: SystemTime,
    /// When to ask again.
    pub refresh_at: SystemTime,
    /// It was due for renewal and could not be renewed.
    pub degraded: bool,
    /// What the registry granted of the scope that was asked for; empty for a token without a scope.
    pub granted: ScopeSet,
}

/// What the caches know about one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainState {
    /// The token of the broker's identity itself; absent for one that becomes no application.
    pub identity: Option<KeyState>,
    /// The Entra token.
    pub entra: KeyState,
    /// The registry's refresh token.
    pub refresh: KeyState,
    /// The registry's access token; absent for a request without a scope, which gets the refresh token.
    pub access: Option<KeyState>,
    /// When that was so.
    pub at: Moment,
}

/// Which cached tokens to drop: all that match every part that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invalidation {
    /// Those of federated requests of this cluster.
    pub cluster: Option<String>,
    /// Those for this ServiceAccount, as `system:serviceaccount:<namespace>:<name>`.
    pub subject: Option<String>,
    /// Those of the broker-owned identity with this name.
    pub identity: Option<String>,
    /// Those of this registry; Entra tokens are of no registry and stay.
    pub registry: Option<RegistryHost>,
}

impl Credentials {
    /// Empty caches in front of `azure`.
    pub fn new(azure: Arc<Azure>, clock: Arc<dyn Clock>, metrics: &Metrics) -> Self {
        Self {
            chain: Chain::new(azure, Arc::clone(&clock), metrics),
            clock,
        }
    }

    /// A credential for what the permit allows.
    ///
    /// # Errors
    /// Azure said no, could not be reached, or answered nonsense, and there is no earlier token to fall back on.
    ///
    /// # Cancel safety
    /// Cancel safe: what has been started is finished for whoever asks next.
    pub async fn credential(&self, permit: &Permit, wish: &Wish) -> Result<Credential, CredentialError> {
        let key = AccessKey::of(permit);
        let errand = Errand {
            source: permit.source().clone(),
            tenant: permit.tenant().clone(),
            held_until: wish.held.map(|held| held.expires_at),
            force: wish.force,
            suspects: wish.rejected.is_some(),
        };
        let served = if key.scopes.is_empty() {
            let need = |current: Option<&Payload>| need(wish, current);
            self.chain.registry_wide(&key.registry, &errand, need).await?
        } else {
            let need = |current: Option<&Token<Payload>>| need(wish, current.map(|token| &token.value));
            self.chain.scoped(&key, &errand, need).await?
        };
        Ok(self.answer(&served, wish))
    }

    /// What the caches know about a request. Asks nobody.
    pub fn inspect(&self, permit: &Permit) -> ChainState {
        let key = AccessKey::of(permit);
        let itself = permit
            .source()
            .application()
            .map(|(identity, _)| EntraKey::itself(identity));
        ChainState {
            identity: itself.map(|key| self.chain.entra.inspect(&key)),
            entra: self.chain.entra.inspect(&key.registry.entra),
            refresh: self.chain.registry.inspect(&key.registry),
            access: (!key.scopes.is_empty()).then(|| self.chain.access.inspect(&key)),
            at: self.clock.moment(),
        }
    }

    /// Drops cached tokens and remembered failures; how many keys there were.
    pub fn invalidate(&self, what: &Invalidation) -> u64 {
        self.chain.entra.invalidate(|key| key.matches(what))
            + self.chain.registry.invalidate(|key| key.matches(what))
            + self.chain.access.invalidate(|key| key.registry.matches(what))
    }

    /// Drops what nobody asks for and what has been evicted, so that it is wiped. To be called every few seconds.
    pub fn maintain(&self) {
        self.chain.entra.maintain();
        self.chain.registry.maintain();
        self.chain.access.maintain();
    }

    fn answer(&self, served: &Served<Payload>, wish: &Wish) -> Credential {
        let (token, payload) = (&served.token, &served.token.value);
        let fresh = Credential {
            payload: Some(payload.clone()),
            fingerprint: payload.fingerprint(),
            expires_at: token.lifetime.expires_at(),
            refresh_at: served.refresh_at,
            degraded: served.degraded,
            granted: payload.granted().clone(),
        };
        match wish.held {
            Some(held) if held.fingerprint == payload.fingerprint() => Credential {
                payload: None,
                ..fresh
            },
            // Another replica's token, or an older one of ours: good enough unless this one lasts notably longer.
            Some(held) if self.is_good_enough(held, wish, token) => Credential {
                payload: None,
                fingerprint: held.fingerprint,
                expires_at: held.expires_at,
                ..fresh
            },
            Some(_) | None => fresh,
        }
    }

    /// Whether a caller should keep what it holds although this replica has something else.
    fn is_good_enough(&self, held: Held, wish: &Wish, ours: &Token<Payload>) -> bool {
        if wish.rejected == Some(held.fingerprint) {
            return false;
        }
        let now = self.clock.moment();
        let left = held.expires_at.duration_since(now.wall).unwrap_or_default();
        // A payload is never replaced by one that expires earlier (guarantee S8).
        let is_longer = held.expires_at >= ours.lifetime.expires_at();
        let gain = ours
            .lifetime
            .expires_at()
            .duration_since(held.expires_at)
            .unwrap_or_default();
        let is_worth_it = gain >= ours.lifetime.total().mul_f64(WORTH_A_WRITE);
        left >= FLOOR
            && (is_longer || (ours.lifetime.would_suffice(left, wish.min_remaining) && !is_worth_it))
    }
}

/// What a caller's wish asks of the current token, told apart by its fingerprint.
fn need(wish: &Wish, current: Option<&Payload>) -> Need {
    let is_current = |fingerprint| current.is_some_and(|payload| payload.fingerprint() == fingerprint);
    Need {
        min_remaining: wish.min_remaining,
        has_current: wish.held.is_some_and(|held| is_current(held.fingerprint)),
        rejected_current: wish.rejected.is_some_and(is_current),
        force: wish.force,
    }
}
