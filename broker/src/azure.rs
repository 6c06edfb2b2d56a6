//! Azure: Entra ID, the instance metadata service, and the registries' token endpoints. Nothing else in the project
//! talks to any of them, and nothing in here caches.
//!
//! A call passes [`entra`], [`imds`] or [`registry`] (what to ask; [`sdk_transport`] puts `azure_identity` on top, and
//! [`broker_owned`] says which of them a broker's identity takes) ->
//! [`upstream`] (one call) -> [`gate`] (may it be made now) -> [`transport`] (the bytes). What goes wrong is kept by
//! [`refusal`] and turned into a reason of the catalogue by [`classify`].

mod broker_owned;
mod classify;
mod egress;
mod entra;
mod gate;
mod http_transport;
mod imds;
mod imds_update;
mod projected_token;
mod refusal;
mod registry;
mod sdk_transport;
mod skew;
mod token_text;
pub mod transport;
mod transport_failure;
mod upstream;

use std::{sync::Arc, time::SystemTime};

use proto::types::{RegistryHost, ScopeSet};
use runtime::{Clock, Secret};
use url::Url;

use crate::{
    authz::TokenSource,
    config::{Application, Clouds, EgressConfig, Identity},
    error::CredentialError,
    metrics::UpstreamMetrics,
    tenant::Tenant,
};
use classify::Presented;
pub use egress::EgressError;
use entra::Exchange;
use http_transport::HttpTransport;
pub use transport::Transport;
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
        let transport = Arc::new(HttpTransport::new(egress, clouds.registries())?);
        Ok(Self::over(
            transport,
            egress.imds_endpoint.clone(),
            clock,
            metrics,
        ))
    }

    /// The same over a transport of one's own. All waiting above it is by tokio's clock, all dates are by `clock`.
    pub fn over(
        transport: Arc<dyn Transport>,
        imds_endpoint: Url,
        clock: Arc<dyn Clock>,
        metrics: UpstreamMetrics,
    ) -> Self {
        let upstream = Upstream::new(transport, imds_endpoint, Arc::clone(&clock), metrics);
        Self {
            upstream: Arc::new(upstream),
            clock,
        }
    }

    /// The Entra token that the source itself gives: for the registry audience, or, of an identity that becomes an
    /// application, for [`Azure::application_token`].
    ///
    /// # Errors
    /// Classified: see [`classify`].
    pub async fn entra_token(
        &self,
        source: &TokenSource,
        attempt: &Attempt,
    ) -> Result<Issued, CredentialError> {
        let now = self.clock.now();
        match source {
            TokenSource::Federated {
                cloud,
                tenant,
                client,
                issuer,
                subject,
                audiences,
                assertion,
                cluster: _,
            } => {
                let exchange = Exchange {
                    cloud,
                    tenant,
                    client,
                    assertion,
                    audience: &cloud.registry_audience,
                    presented: Presented::service_account(issuer, subject, audiences),
                };
                entra::exchange(&self.upstream, exchange, attempt, now).await
            }
            TokenSource::BrokerOwned(identity) => {
                broker_owned::own_token(&self.upstream, identity, attempt, now).await
            }
        }
    }

    /// The registry token of the application that an identity becomes with its own token.
    ///
    /// # Errors
    /// Classified: see [`classify`].
    pub async fn application_token(
        &self,
        identity: &Identity,
        application: &Application,
        own_token: &Secret,
        attempt: &Attempt,
    ) -> Result<Issued, CredentialError> {
        let now = self.clock.now();
        broker_owned::application_token(&self.upstream, identity, application, own_token, attempt, now).await
    }

    /// A registry's refresh token for an Entra token.
    ///
    /// # Errors
    /// Classified: see [`classify`].
    pub async fn refresh_token(
        &self,
        host: &RegistryHost,
        entra_token: &Secret,
        attempt: &Attempt,
    ) -> Result<Issued, CredentialError> {
        registry::refresh_token(&self.upstream, host, entra_token, attempt, self.clock.now()).await
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
        attempt: &Attempt,
    ) -> Result<(Issued, ScopeSet), CredentialError> {
        registry::access_token(
            &self.upstream,
            host,
            refresh_token,
            scopes,
            attempt,
            self.clock.now(),
        )
        .await
    }
}

#[cfg(test)]
mod tests;
