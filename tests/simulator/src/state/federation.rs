//! What lets one identity stand for another: applications that are present in several tenants, and Entra's own tokens as
//! assertions.

use super::{Cloud, FederatedCredential, Principal, State, Tenant};

/// The audience of tokens that are shown to Entra, as documented for the public cloud.
pub(super) const FEDERATION_AUDIENCE: &str = "api://AzureADTokenExchange";

impl State {
    /// Whom a principal trusts. Federated credentials belong to the application, which has one home.
    pub(crate) fn credentials_of<'a>(&'a self, principal: &'a Principal) -> &'a [FederatedCredential] {
        &self.application_of(principal).unwrap_or(principal).fics
    }

    /// The principal that stands for the same application in the application's home tenant, if that is another.
    pub(crate) fn application_of(&self, principal: &Principal) -> Option<&Principal> {
        let home = principal.home_tenant.as_ref()?;
        self.principals.iter().find(|candidate| {
            candidate.client_id.eq_ignore_ascii_case(&principal.client_id)
                && candidate.tenant.eq_ignore_ascii_case(home)
                && candidate.home_tenant.is_none()
        })
    }

    /// `iss` of the tokens that a tenant's identities show to Entra.
    pub(crate) fn entra_issuer(&self, tenant: &Tenant) -> Option<String> {
        let cloud = self.cloud(&tenant.cloud)?;
        Some(format!("https://{}/{}/v2.0", cloud.authority, tenant.id))
    }

    /// Whether this is the issuer of a tenant of this Azure.
    pub(crate) fn is_entra_issuer(&self, issuer: &str) -> bool {
        self.tenants
            .iter()
            .any(|tenant| self.entra_issuer(tenant).as_deref() == Some(issuer))
    }
}

impl Cloud {
    /// Whether Entra issues tokens for this audience: for registries, Azure Resource Manager, or Entra itself.
    pub fn issues_for(&self, audience: &str) -> bool {
        self.knows_audience(audience) || self.federation_audience == audience
    }
}

impl Principal {
    /// The service principal in `tenant` of the application `client_id`, whose home is another tenant.
    pub fn of_application(home_tenant: &str, tenant: &str, client_id: &str, object_id: &str) -> Self {
        Self {
            home_tenant: Some(home_tenant.to_owned()),
            ..Self::app(tenant, client_id, object_id)
        }
    }
}
