//! Who may use which identity for what. Default deny; [`authz`](crate::authz) applies it.

use std::sync::Arc;

use proto::types::{AzureId, RegistryHost, TenantId};

use super::{Identity, Pattern};

/// Broker-owned identities and the grants.
#[derive(Debug)]
pub struct Policy {
    /// Declared identities; no other is ever used.
    pub identities: Vec<Arc<Identity>>,
    /// Who may use which identity for what.
    pub grants: Vec<Grant>,
}

/// One rule: everything in it must match.
#[derive(Debug)]
pub struct Grant {
    /// Name in logs.
    pub name: Arc<str>,
    /// Exact cluster names; one that is no cluster matches nothing.
    pub clusters: Vec<String>,
    /// Namespaces.
    pub namespaces: Vec<Pattern>,
    /// ServiceAccounts; every one of a request must match.
    pub service_accounts: Vec<Pattern>,
    /// Whose rights it lets them have.
    pub identity: GrantedIdentity,
    /// Exact registries.
    pub registries: Vec<RegistryHost>,
    /// Repositories.
    pub repositories: Vec<Pattern>,
    /// Exact actions.
    pub actions: Vec<String>,
    /// Whether requests without a scope, for all that the identity may do, are allowed too.
    pub registry_wide: bool,
}

/// Whose rights a grant lets its holders have.
#[derive(Debug, PartialEq, Eq)]
pub enum GrantedIdentity {
    /// A declared identity, by its name.
    BrokerOwned(Arc<str>),
    /// Identities that trust ServiceAccounts themselves.
    Federated(GrantedClients),
}

/// Federated identities. Each list is compared exactly, and a tenant's domain is not its GUID.
#[derive(Debug, PartialEq, Eq)]
pub struct GrantedClients {
    /// Name of the cloud that the tenants are of.
    pub cloud: Arc<str>,
    /// Their tenants.
    pub tenants: Vec<TenantId>,
    /// Their client IDs.
    pub clients: Vec<AzureId>,
}

/// What the requests of a cluster need of the grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantModes {
    /// Requests for a broker-owned identity. Nothing else would decide on them, so there is no off.
    pub broker_owned: GrantMode,
    /// Federated requests; none: Entra ID alone decides on them, below the ceilings.
    pub federated: Option<GrantMode>,
}

/// What becomes of a request that no grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantMode {
    /// It is denied.
    Enforce,
    /// It is let through, and reported.
    Report,
}

impl Default for GrantModes {
    fn default() -> Self {
        Self {
            broker_owned: GrantMode::Enforce,
            federated: None,
        }
    }
}

impl GrantMode {
    /// Its word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Report => "report",
        }
    }
}
