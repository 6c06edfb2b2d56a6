//! Keys of the three caches: structs of canonical parts that were authenticated or come from the policy.
//!
//! Never a token's text, which changes with every TokenRequest, and never a join of strings, which can collide.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use proto::types::{AzureId, RegistryHost, ResourceId, ScopeSet, TenantId};
use url::Url;

use super::Invalidation;
use crate::{
    authz::{Permit, TokenSource},
    config::{Application, Cloud, Identity, IdentitySource},
};

/// Who becomes whom, in which cloud.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EntraKey {
    cloud: CloudKey,
    who: Who,
}

/// A cloud by what its tokens depend on, and not by its name alone: a reload may give a name another meaning, and no token
/// passes from one to the other.
#[derive(Debug, Clone)]
struct CloudKey(Arc<Cloud>);

/// An identity by all of it, for the same reason. Its cloud stands beside it in the key.
#[derive(Debug, Clone)]
struct IdentityKey(Arc<Identity>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    /// The cluster is part of it: clusters may share issuers, and with them every subject. So are the audiences: Entra
    /// refuses one and takes the other.
    Federated {
        tenant: TenantId,
        client: AzureId,
        cluster: Arc<str>,
        issuer: Arc<str>,
        subject: Arc<str>,
        audiences: Arc<[String]>,
    },
    BrokerOwned(IdentityKey),
    /// The same identity with its own token, which is for Entra: what it becomes its application with.
    Itself(IdentityKey),
}

/// An identity at a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RegistryKey {
    pub(super) entra: EntraKey,
    pub(super) registry: RegistryHost,
}

/// What an identity may do at a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AccessKey {
    pub(super) registry: RegistryKey,
    pub(super) scopes: ScopeSet,
}

impl RegistryKey {
    /// Whether an invalidation means this key.
    pub(super) fn matches(&self, what: &Invalidation) -> bool {
        let is_of_registry = what
            .registry
            .as_ref()
            .is_none_or(|registry| *registry == self.registry);
        is_of_registry && self.entra.is_of(what)
    }
}

impl AccessKey {
    pub(super) fn of(permit: &Permit) -> Self {
        Self {
            registry: RegistryKey {
                entra: EntraKey::of(permit.source()),
                registry: permit.registry().clone(),
            },
            scopes: permit.scopes().clone(),
        }
    }
}

impl EntraKey {
    /// Whether an invalidation means this key. An Entra token is of no registry.
    pub(super) fn matches(&self, what: &Invalidation) -> bool {
        what.registry.is_none() && self.is_of(what)
    }

    fn is_of(&self, what: &Invalidation) -> bool {
        let Invalidation {
            cluster: wanted_cluster,
            subject: wanted_subject,
            identity: wanted_identity,
            registry: _of_another_key,
        } = what;
        let fits = |wanted: &Option<String>, actual: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| actual == Some(wanted))
        };
        let (cluster, subject, identity) = match &self.who {
            Who::Federated { cluster, subject, .. } => (Some(&**cluster), Some(&**subject), None),
            Who::BrokerOwned(identity) | Who::Itself(identity) => (None, None, Some(&*identity.0.name)),
        };
        fits(wanted_cluster, cluster) && fits(wanted_subject, subject) && fits(wanted_identity, identity)
    }

    /// The key of the token that an identity itself has, where it becomes an application.
    pub(super) fn itself(identity: &Arc<Identity>) -> Self {
        Self {
            cloud: CloudKey(Arc::clone(&identity.cloud)),
            who: Who::Itself(IdentityKey(Arc::clone(identity))),
        }
    }

    fn of(source: &TokenSource) -> Self {
        let (cloud, who) = match source {
            TokenSource::Federated {
                cloud,
                tenant,
                client,
                cluster,
                issuer,
                subject,
                audiences,
                assertion: _,
            } => (
                cloud,
                Who::Federated {
                    tenant: tenant.clone(),
                    client: client.clone(),
                    cluster: Arc::clone(cluster),
                    issuer: Arc::clone(issuer),
                    subject: Arc::clone(subject),
                    audiences: Arc::clone(audiences),
                },
            ),
            TokenSource::BrokerOwned(identity) => (
                &identity.cloud,
                Who::BrokerOwned(IdentityKey(Arc::clone(identity))),
            ),
        };
        Self {
            cloud: CloudKey(Arc::clone(cloud)),
            who,
        }
    }
}

impl CloudKey {
    fn parts(&self) -> (&str, &Url, &str, Option<&str>) {
        let Cloud {
            name,
            authority,
            // Asked with every request, before the caches and after them. A fence that is narrowed must not orphan what is
            // cached for the registries that stay, least of all while Entra is down.
            registries: _,
            registry_audience,
            federation_audience,
        } = &*self.0;
        (name, authority, registry_audience, federation_audience.as_deref())
    }
}

impl IdentityKey {
    fn parts(
        &self,
    ) -> (
        &str,
        &TenantId,
        Option<&AzureId>,
        Option<&ResourceId>,
        &IdentitySource,
        Option<&Application>,
    ) {
        let Identity {
            name,
            cloud: _,
            tenant,
            client_id,
            resource_id,
            source,
            application,
        } = &*self.0;
        (
            name,
            tenant,
            client_id.as_ref(),
            resource_id.as_ref(),
            source,
            application.as_ref(),
        )
    }
}

impl PartialEq for CloudKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.parts() == other.parts()
    }
}

impl Eq for CloudKey {}

impl Hash for CloudKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for IdentityKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.parts() == other.parts()
    }
}

impl Eq for IdentityKey {}

impl Hash for IdentityKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

#[cfg(test)]
mod tests;
