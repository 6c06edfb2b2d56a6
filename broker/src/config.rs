//! The broker's configuration: one strict YAML file, checked completely before anything starts.
//!
//! [`file`] is what people write, field by field; [`load`] reads it, resolves relative paths against the file's own
//! directory and turns it into the types below, in which nothing is left to parse. Every refusal names the field.

mod audit;
mod clouds;
mod file;
mod identities;
mod limits;
mod load;
mod pattern;
mod policy;
mod registry_fence;
mod workloads;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use proto::types::{RegistryHost, TenantId};
use runtime::tls::leaf::CertificateName;
use url::Url;

use crate::authn::KeySet;
pub use audit::{AuditConfig, AuditSink, OnBlocked};
pub use clouds::{Cloud, Clouds};
pub use identities::{Application, Identity, IdentitySource};
pub use limits::{Limits, Rate};
pub use load::{ConfigError, DEFAULT_TOKEN_LIFETIME, FILE_FIELD, Loaded, load};
pub use pattern::Pattern;
pub use policy::{Grant, GrantMode, GrantModes, GrantedClients, GrantedIdentity, Policy};
pub use registry_fence::RegistryFence;
pub use workloads::Workloads;

/// Everything that the file says.
#[derive(Debug)]
pub struct Config {
    /// The clusters whose tokens are accepted.
    pub clusters: Vec<ClusterConfig>,
    /// The built-in clouds and those of the file.
    pub clouds: Clouds,
    /// What broker-owned identities there are, and who may use them.
    pub policy: Policy,
    /// How Azure is reached.
    pub egress: EgressConfig,
    /// What is recorded of decisions, and where.
    pub audit: AuditConfig,
    /// What is in use and may be a mistake, one line each, by the path of the field.
    pub warnings: Vec<String>,
}

/// One cluster.
#[derive(Debug)]
pub struct ClusterConfig {
    /// Name in logs, grants and metrics.
    pub name: Arc<str>,
    /// The `iss` of its tokens. Several clusters may share it.
    pub issuer: String,
    /// Where its public keys come from. No two clusters share one that is written, or a URL.
    pub keys: KeySource,
    /// Audiences of tokens that authenticate a caller.
    pub caller_audiences: Vec<String>,
    /// Audiences of tokens that are exchanged at Entra. Disjoint from the above: no token serves both purposes.
    pub subject_audiences: Vec<String>,
    /// For how long a token of either kind may have been issued.
    pub max_token_lifetime: Duration,
    /// The `sub`s that may ask for bindings of this cluster.
    pub syncers: Vec<String>,
    /// The `sub`s that may call FleetService and see all of Explain.
    pub operators: Vec<String>,
    /// Names of the client certificates that its callers must come with, one of them; empty means that it does not matter
    /// who made the connection.
    pub client_certificates: Vec<CertificateName>,
    /// The ServiceAccounts that may ask for themselves.
    pub workloads: Workloads,
    /// Tenant of federated identities that name none.
    pub default_tenant: Option<TenantId>,
    /// What its requests need of the grants.
    pub grant_modes: GrantModes,
    /// Tenants that federated requests may name; empty means any.
    pub tenant_ceiling: Vec<TenantId>,
    /// Registries that any request may name; empty means any of an allowed domain.
    pub registry_ceiling: Vec<RegistryHost>,
    /// How often it may ask.
    pub limits: Limits,
}

/// Where the public keys of a cluster come from.
#[derive(Debug)]
pub enum KeySource {
    /// Written in the configuration, or read from a file beside it.
    Fixed(KeySet),
    /// Fetched, and fetched again.
    Url(JwksUrl),
}

/// A JWKS endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JwksUrl {
    /// `https://...`.
    pub url: Url,
    /// The only roots for this endpoint.
    pub ca_bundle: Option<CaBundle>,
    /// Bearer token: `/openid/v1/jwks` of a plain cluster refuses anonymous callers.
    pub token_file: Option<PathBuf>,
}

/// A file with roots. With another content it is another bundle: it vouches for other servers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CaBundle {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of its content when the configuration was read.
    pub digest: [u8; 32],
}

/// How Azure is reached.
#[derive(Debug, PartialEq, Eq)]
pub struct EgressConfig {
    /// Additional roots for Entra and the registries, already read.
    pub ca_bundle_pem: Option<Vec<u8>>,
    /// Private endpoints.
    pub host_overrides: Vec<HostOverride>,
    /// The instance metadata service.
    pub imds_endpoint: Url,
}

/// A host name, or everything under a suffix, that lives at a fixed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOverride {
    /// Lower-case name, or `*.suffix`.
    pub host: Pattern,
    /// Where it is.
    pub address: SocketAddr,
}
