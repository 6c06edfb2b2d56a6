//! Keys of the three caches: structs of canonical parts that were authenticated or come from the policy.
//!
//! Never a token's text, which changes with every TokenRequest, and never a join of strings, which can collide.

use std::sync::Arc;

use proto::types::{AzureId, RegistryHost, ScopeSet, TenantId};

use crate::authz::{Permit, TokenSource};

/// Who becomes whom, in which cloud.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EntraKey {
    /// Unique in the configuration; authority and audience follow from it.
    cloud: Arc<str>,
    who: Who,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    /// The cluster is part of it: clusters may share issuers, and with them every subject.
    Federated {
        tenant: TenantId,
        client: AzureId,
        cluster: Arc<str>,
        subject: Arc<str>,
    },
    /// The name is unique in the configuration.
    BrokerOwned { identity: Arc<str> },
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
    fn of(source: &TokenSource) -> Self {
        let (cloud, who) = match source {
            TokenSource::Federated {
                cloud,
                tenant,
                client,
                cluster,
                subject,
                issuer: _,
                assertion: _,
            } => (
                cloud,
                Who::Federated {
                    tenant: tenant.clone(),
                    client: client.clone(),
                    cluster: Arc::clone(cluster),
                    subject: Arc::clone(subject),
                },
            ),
            TokenSource::BrokerOwned(identity) => (
                &identity.cloud,
                Who::BrokerOwned {
                    identity: Arc::clone(&identity.name),
                },
            ),
        };
        Self {
            cloud: Arc::clone(&cloud.name),
            who,
        }
    }
}

#[cfg(test)]
mod tests;
