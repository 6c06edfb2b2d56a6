//! Azure: Entra ID, the instance metadata service, and the registries' token endpoints. Nothing else in the project
//! talks to any of them, and nothing in here caches.
//!
//! [`upstream`] sends every request, with its deadline, bounds, span and one typed error; [`sdk_transport`] puts
//! `azure_identity` on top of it; [`classify`] turns what went wrong into a reason of the catalogue.

mod classify;
mod egress;
mod entra;
mod imds;
mod registry;
mod sdk_transport;
mod upstream;

use std::{sync::Arc, time::SystemTime};

use proto::types::{RegistryHost, ScopeSet};
use runtime::{Clock, Secret};

use crate::{
    authz::TokenSource,
    config::{Clouds, EgressConfig},
    error::CredentialError,
    metrics::UpstreamMetrics,
    tenant::Tenant,
};
pub use egress::EgressError;
use upstream::Upstream;

/// A token as Azure issued it.
pub struct Issued {
    /// The token.
    pub token: Secret,
    /// When it expires, by our own clock.
    pub expires_at: SystemTime,
}

/// On whose behalf, how urgently, and after what a call is made.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Whose share of the budget it takes.
    pub tenant: Tenant,
    /// When what the caller holds expires: the earliest goes first. None: it holds nothing, and goes before all.
    pub held_until: Option<SystemTime>,
    /// The call before it, for the same key, failed in a way that passes by itself.
    pub is_retry: bool,
}

/// The way to Azure.
pub struct Azure {
    upstream: Arc<Upstream>,
    clock: Arc<dyn Clock>,
}

impl Azure {
    /// Prepares the clients; sends nothing.
    ///
    /// # Errors
    /// The CA bundle or the proxy variables cannot be used.
    pub fn new(
        egress: &EgressConfig,
        clouds: &Clouds,
        clock: Arc<dyn Clock>,
        metrics: UpstreamMetrics,
    ) -> Result<Self, EgressError> {
        let suffixes = clouds
            .iter()
            .flat_map(|cloud| cloud.registry_suffixes.clone())
            .collect();
        Ok(Self {
            upstream: Arc::new(Upstream::new(egress, suffixes, metrics)?),
            clock,
        })
    }

    /// An Entra token for the registry audience.
    ///
    /// # Errors
    /// Classified: see [`classify`].
    pub async fn entra_token(
        &self,
        source: &TokenSource,
        _attempt: &Attempt,
    ) -> Result<Issued, CredentialError> {
        let now = self.clock.now();
        match source {
            TokenSource::Federated { .. } => entra::token_for_assertion(&self.upstream, source, now).await,
            TokenSource::BrokerOwned(identity) => {
                imds::token_for_identity(&self.upstream, identity, now).await
            }
        }
    }

    /// A registry's refresh token for an Entra token.
    ///
    /// # Errors
    /// Classified: see [`classify`].
    pub async fn refresh_token(
        &self,
        host: &RegistryHost,
        entra_token: &Secret,
        _attempt: &Attempt,
    ) -> Result<Issued, CredentialError> {
        registry::refresh_token(&self.upstream, host, entra_token, self.clock.now()).await
    }

    /// A registry's access token for a scope, and what of the scope it granted.
    ///
    /// # Errors
    /// Classified: see [`classify`].
    pub async fn access_token(
        &self,
        host: &RegistryHost,
        refresh_token: &Secret,
        scopes: &ScopeSet,
        _attempt: &Attempt,
    ) -> Result<(Issued, ScopeSet), CredentialError> {
        registry::access_token(&self.upstream, host, refresh_token, scopes, self.clock.now()).await
    }
}
