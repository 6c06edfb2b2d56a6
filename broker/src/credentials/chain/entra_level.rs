//! The first level: an Entra token for registries, and below it, where an identity becomes an application, the token of
//! the identity itself.
//!
//! Both are in the one cache of Entra tokens. The identity's own token is asked for once for all registries, serves as
//! long as it lives (a managed identity's a day, an application's an hour), and is in nobody's reach but Entra's.

use std::sync::Arc;

use proto::Reason;
use runtime::Secret;

use super::{Chain, EntraKey, Errand, GOOD, blamed_at};
use crate::{
    cache::{Departure, Token},
    error::CredentialError,
    expiry::Need,
};

impl Chain {
    pub(super) async fn entra_token(
        &self,
        key: &EntraKey,
        errand: &Errand,
        need: impl Fn(Option<&Token<Secret>>) -> Need,
    ) -> Result<Arc<Token<Secret>>, CredentialError> {
        let fetch = |departure| {
            let (this, errand) = (self.clone(), errand.clone());
            async move { this.fetch_entra_token(&errand, departure).await }
        };
        let served = self.entra.get(key, &errand.tenant, need, fetch).await?;
        Ok(served.token)
    }

    async fn fetch_entra_token(
        &self,
        errand: &Errand,
        departure: Departure,
    ) -> Result<Token<Secret>, CredentialError> {
        let attempt = errand.attempt(departure);
        let issued = match errand.source.application() {
            Some((identity, application)) => {
                let own = self
                    .own_token(&EntraKey::itself(identity), errand, departure)
                    .await?;
                self.azure
                    .application_token(identity, application, &own.value, &attempt)
                    .await?
            }
            None => self.azure.entra_token(&errand.source, &attempt).await?,
        };
        Ok(self.token(issued))
    }

    /// Any good one will do: nothing that its application may do is written in it. One that Entra refuses is suspect once
    /// it is old, as elsewhere.
    async fn own_token(
        &self,
        key: &EntraKey,
        errand: &Errand,
        departure: Departure,
    ) -> Result<Arc<Token<Secret>>, CredentialError> {
        let blamed_at = blamed_at(departure, Reason::FederationRejected);
        let need = |current: Option<&Token<Secret>>| self.need_of(GOOD, current, blamed_at, errand);
        let fetch = |departure| {
            let (this, errand) = (self.clone(), errand.clone());
            async move {
                let attempt = errand.attempt(departure);
                let issued = this.azure.entra_token(&errand.source, &attempt).await?;
                Ok(this.token(issued))
            }
        };
        let served = self.entra.get(key, &errand.tenant, need, fetch).await?;
        Ok(served.token)
    }
}
