//! Who may have what: the only place where a [`Permit`] is made, and nothing is fetched without one. Pure.
//!
//! Default deny. Federated requests need a ServiceAccount token of the binding's own namespace and stay under the
//! cluster's ceilings; Entra then decides. Broker-owned identities are declared and granted, or denied.

use std::sync::Arc;

use proto::types::{AzureId, RegistryHost, ScopeSet, TenantId};
use runtime::Secret;

use crate::{
    authn::{Caller, Subject},
    config::{Application, Cloud, Clouds, Grant, Identity, Policy},
    request::{DockerConfigRequest, IdentitySelector, RequestedIdentity},
    tenant::Tenant,
};

/// What has been allowed. Only [`permit`] makes one.
pub struct Permit {
    tenant: Tenant,
    source: TokenSource,
    registry: RegistryHost,
    scopes: ScopeSet,
    grant: Option<Arc<str>>,
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

    /// The grant that allowed it, for broker-owned identities.
    pub fn grant(&self) -> Option<&str> {
        self.grant.as_deref()
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
    let cluster = &caller.cluster.config;
    let cloud = clouds
        .requested(&request.cloud.name, &request.cloud.authority_host)
        .ok_or(Denied::Cloud)?;
    if !cloud.allows(&request.registry) {
        return Err(Denied::RegistryDomain {
            registry: request.registry.clone(),
            cloud: Arc::clone(&cloud.name),
            suffixes: cloud.registry_suffixes.join(", "),
        });
    }
    if !cluster.registry_ceiling.is_empty() && !cluster.registry_ceiling.contains(&request.registry) {
        return Err(Denied::RegistryCeiling(request.registry.clone()));
    }
    let no_grant = || Denied::NoGrant {
        namespace: request.namespace.clone(),
        registry: request.registry.clone(),
    };
    let (source, grant) = match (&request.identity, subject) {
        (
            RequestedIdentity::Federated {
                tenant,
                client,
                subject_token,
            },
            Some(subject),
        ) => {
            if *subject.namespace != *request.namespace {
                return Err(Denied::OtherNamespace(request.namespace.clone()));
            }
            let tenant = tenant
                .clone()
                .or_else(|| cluster.default_tenant.clone())
                .ok_or(Denied::NoTenant)?;
            if !cluster.tenant_ceiling.is_empty() && !cluster.tenant_ceiling.contains(&tenant) {
                return Err(Denied::TenantCeiling(tenant));
            }
            let source = TokenSource::Federated {
                cloud: Arc::clone(cloud),
                tenant,
                client: client.clone(),
                cluster: Arc::clone(&cluster.name),
                issuer: cluster.issuer.as_str().into(),
                subject: Arc::clone(&subject.subject),
                audiences: Arc::clone(&subject.audiences),
                assertion: subject_token.clone(),
            };
            (source, None)
        }
        // Without a verified subject there is nobody to act for.
        (RequestedIdentity::Federated { .. }, None) => return Err(no_grant()),
        (RequestedIdentity::BrokerOwned(selector), _) => {
            let identity = policy
                .identities
                .iter()
                .find(|identity| names(selector, identity) && identity.cloud == *cloud)
                .ok_or_else(no_grant)?;
            let grant = policy
                .grants
                .iter()
                .find(|grant| allows(grant, identity, request, &cluster.name))
                .ok_or_else(no_grant)?;
            (
                TokenSource::BrokerOwned(Arc::clone(identity)),
                Some(Arc::clone(&grant.name)),
            )
        }
    };
    Ok(Permit {
        tenant: Tenant {
            cluster: Arc::clone(&cluster.name),
            namespace: request.namespace.as_str().into(),
        },
        source,
        registry: request.registry.clone(),
        scopes: request.scopes.clone(),
        grant,
    })
}

/// Whether `selector` means `identity`.
pub fn names(selector: &IdentitySelector, identity: &Identity) -> bool {
    match selector {
        IdentitySelector::ClientId(id) => identity.client_id.as_ref() == Some(id),
        IdentitySelector::ResourceId(id) => identity.resource_id.as_ref() == Some(id),
    }
}

/// One grant must allow all of it: two grants that each allow half are no grant.
fn allows(grant: &Grant, identity: &Identity, request: &DockerConfigRequest, cluster: &str) -> bool {
    let scope_is_allowed = || {
        request.scopes.iter().all(|scope| {
            scope.kind == "repository"
                && grant
                    .repositories
                    .iter()
                    .any(|pattern| pattern.matches(&scope.name))
                && scope.actions.iter().all(|action| grant.actions.contains(action))
        })
    };
    *grant.identity == *identity.name
        && grant.clusters.iter().any(|name| name == cluster)
        && grant.namespaces.iter().any(|pattern| pattern.matches(&request.namespace))
        && !request.service_accounts.is_empty()
        && request
            .service_accounts
            .iter()
            .all(|account| grant.service_accounts.iter().any(|pattern| pattern.matches(account)))
        && grant.registries.contains(&request.registry)
        // Without a scope the token can do all that the identity may do: no list of repositories covers that.
        && if request.scopes.is_empty() { grant.registry_wide } else { scope_is_allowed() }
}

#[cfg(test)]
mod tests;
