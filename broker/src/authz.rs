//! Who may have what: the only place where a [`Permit`] is made, and nothing is fetched without one. Pure.
//!
//! Default deny. Federated requests need a ServiceAccount token of the binding's own namespace and stay under the
//! cluster's ceilings; Entra then decides, and a grant besides where the cluster demands one. Broker-owned identities are
//! declared and granted, or denied. [`grants`] says what a grant allows.

pub mod grants;
pub mod nearest;

use std::sync::Arc;

use proto::types::{AzureId, RegistryHost, ScopeSet, TenantId};
use runtime::Secret;

use crate::{
    authn::{Caller, Subject},
    config::{Application, Cloud, Clouds, Identity, Policy},
    request::{DockerConfigRequest, IdentitySelector, RequestedIdentity},
    tenant::Tenant,
};
use grants::{Asked, AskedIdentity, Decision};

/// What has been allowed. Only [`permit`] makes one.
pub struct Permit {
    tenant: Tenant,
    source: TokenSource,
    registry: RegistryHost,
    scopes: ScopeSet,
    decision: Decision,
}

/// Where the Entra token comes from.
#[derive(Clone)]
pub enum TokenSource {
    /// A ServiceAccount's token is exchanged.
    Federated {
        /// The cloud to ask.
        cloud: Arc<Cloud>,
        /// The tenant to ask.
        tenant: TenantId,
        /// The identity to become.
        client: AzureId,
        /// The cluster that vouches: part of the cache key, because clusters may share issuers and names.
        cluster: Arc<str>,
        /// Its issuer, for messages.
        issuer: Arc<str>,
        /// The `sub` of the assertion.
        subject: Arc<str>,
        /// Its audiences: part of the cache key, because Entra may trust one and not the other.
        audiences: Arc<[String]>,
        /// The assertion. Not part of any key.
        assertion: Secret,
    },
    /// The broker's own identity.
    BrokerOwned(Arc<Identity>),
}

impl TokenSource {
    /// The broker's identity and the application that it becomes, where it becomes one.
    pub fn application(&self) -> Option<(&Arc<Identity>, &Application)> {
        match self {
            Self::Federated { .. } => None,
            Self::BrokerOwned(identity) => {
                let application = identity.application.as_ref()?;
                Some((identity, application))
            }
        }
    }
}

impl Permit {
    /// Who it is served for.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Where the Entra token comes from.
    pub fn source(&self) -> &TokenSource {
        &self.source
    }

    /// The one registry that it is for.
    pub fn registry(&self) -> &RegistryHost {
        &self.registry
    }

    /// What the token may do.
    pub fn scopes(&self) -> &ScopeSet {
        &self.scopes
    }

    /// What the grants said.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }
}

/// Why a request is denied. The texts name nothing that the caller has not sent, grants least of all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The cloud is unknown.
    #[error("the broker's configuration lists no such cloud")]
    Cloud,
    /// The registry is outside the cloud's domains.
    #[error("registry {registry} is not in the domains of {cloud}: {suffixes}")]
    RegistryDomain {
        /// As asked.
        registry: RegistryHost,
        /// As asked.
        cloud: Arc<str>,
        /// What would be allowed.
        suffixes: String,
    },
    /// The registry is above the cluster's ceiling.
    #[error("registry {0} is not among those that this cluster may use")]
    RegistryCeiling(RegistryHost),
    /// The tenant is above the cluster's ceiling.
    #[error("tenant {0} is not among those that this cluster may use")]
    TenantCeiling(TenantId),
    /// No tenant in the request and none for the cluster.
    #[error("the request names no tenant and the cluster has no default tenant")]
    NoTenant,
    /// The subject token is of another namespace than the binding.
    #[error("the ServiceAccount's token is not of the binding's namespace {0}")]
    OtherNamespace(String),
    /// No declared identity, or no grant. One text for both: a caller must not learn what is declared.
    #[error("no grant allows namespace {namespace} this identity at registry {registry}")]
    NoGrant {
        /// As asked.
        namespace: String,
        /// As asked.
        registry: RegistryHost,
    },
}

/// Decides. `subject` is the verified ServiceAccount of a federated request.
///
/// # Errors
/// The first rule that says no.
pub fn permit(
    caller: &Caller,
    subject: Option<&Subject>,
    request: &DockerConfigRequest,
    clouds: &Clouds,
    policy: &Policy,
) -> Result<Permit, Denied> {
    let asked = asked(caller, subject, request, clouds, policy)?;
    let cluster = &caller.cluster.config;
    let decision =
        grants::decide(&asked, &policy.grants, cluster.grant_modes).ok_or_else(|| no_grant(request))?;
    Ok(Permit {
        tenant: Tenant {
            cluster: Arc::clone(&cluster.name),
            namespace: request.namespace.as_str().into(),
        },
        source: match asked.identity {
            AskedIdentity::BrokerOwned(identity) => TokenSource::BrokerOwned(Arc::clone(identity)),
            AskedIdentity::Federated {
                cloud,
                tenant,
                client,
                subject,
                assertion,
            } => TokenSource::Federated {
                cloud: Arc::clone(cloud),
                tenant: tenant.clone(),
                client: client.clone(),
                cluster: Arc::clone(&cluster.name),
                issuer: cluster.issuer.as_str().into(),
                subject: Arc::clone(&subject.subject),
                audiences: Arc::clone(&subject.audiences),
                assertion: assertion.clone(),
            },
        },
        registry: request.registry.clone(),
        scopes: request.scopes.clone(),
        decision,
    })
}

/// What is asked of the grants, once every rule that is not a grant has said yes.
///
/// # Errors
/// The first of those rules that says no. An identity that is not declared is [`Denied::NoGrant`] too.
pub fn asked<'a>(
    caller: &'a Caller,
    subject: Option<&'a Subject>,
    request: &'a DockerConfigRequest,
    clouds: &'a Clouds,
    policy: &'a Policy,
) -> Result<Asked<'a>, Denied> {
    let cluster = &caller.cluster.config;
    let cloud = clouds
        .requested(&request.cloud.name, &request.cloud.authority_host)
        .ok_or(Denied::Cloud)?;
    if !cloud.allows(&request.registry) {
        return Err(Denied::RegistryDomain {
            registry: request.registry.clone(),
            cloud: Arc::clone(&cloud.name),
            suffixes: cloud.domains_in_words(),
        });
    }
    if !cluster.registry_ceiling.is_empty() && !cluster.registry_ceiling.contains(&request.registry) {
        return Err(Denied::RegistryCeiling(request.registry.clone()));
    }
    let identity = match (&request.identity, subject) {
        (
            RequestedIdentity::Federated {
                tenant,
                client,
                subject_token: assertion,
            },
            Some(subject),
        ) => {
            if *subject.namespace != *request.namespace {
                return Err(Denied::OtherNamespace(request.namespace.clone()));
            }
            let tenant = tenant
                .as_ref()
                .or(cluster.default_tenant.as_ref())
                .ok_or(Denied::NoTenant)?;
            if !cluster.tenant_ceiling.is_empty() && !cluster.tenant_ceiling.contains(tenant) {
                return Err(Denied::TenantCeiling(tenant.clone()));
            }
            AskedIdentity::Federated {
                cloud,
                tenant,
                client,
                subject,
                assertion,
            }
        }
        // Without a verified subject there is nobody to act for.
        (RequestedIdentity::Federated { .. }, None) => return Err(no_grant(request)),
        (RequestedIdentity::BrokerOwned(selector), _) => AskedIdentity::BrokerOwned(
            policy
                .identities
                .iter()
                .find(|identity| names(selector, identity) && identity.cloud == *cloud)
                .ok_or_else(|| no_grant(request))?,
        ),
    };
    Ok(Asked {
        cluster: &cluster.name,
        namespace: &request.namespace,
        service_accounts: &request.service_accounts,
        identity,
        registry: &request.registry,
        scopes: &request.scopes,
    })
}

fn no_grant(request: &DockerConfigRequest) -> Denied {
    Denied::NoGrant {
        namespace: request.namespace.clone(),
        registry: request.registry.clone(),
    }
}

/// Whether `selector` means `identity`.
pub fn names(selector: &IdentitySelector, identity: &Identity) -> bool {
    match selector {
        IdentitySelector::ClientId(id) => identity.client_id.as_ref() == Some(id),
        IdentitySelector::ResourceId(id) => identity.resource_id.as_ref() == Some(id),
    }
}

#[cfg(test)]
mod tests;
