//! Keys of the three caches: structs of canonical parts that were authenticated or come from the policy.
//!
//! Never a token's text, which changes with every TokenRequest, and never a join of strings, which can collide.

use std::sync::Arc;

use proto::types::{AzureId, RegistryHost, ScopeSet, TenantId};

use crate::{
    authz::{Permit, TokenSource},
    config::{Cloud, Identity},
};

/// Who becomes whom, in which cloud.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EntraKey {
    /// All of it, not its name alone: a reload may give a name another meaning, and no token passes from one to the other.
    cloud: Arc<Cloud>,
    who: Who,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    /// The cluster is part of it: clusters may share issuers, and with them every subject.
    Federated {
        tenant: TenantId,
        client: AzureId,
        cluster: Arc<str>,
        issuer: Arc<str>,
        subject: Arc<str>,
    },
    /// All of it, for the same reason.
    BrokerOwned(Arc<Identity>),
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
                issuer,
                subject,
                assertion: _,
            } => (
                cloud,
                Who::Federated {
                    tenant: tenant.clone(),
                    client: client.clone(),
                    cluster: Arc::clone(cluster),
                    issuer: Arc::clone(issuer),
                    subject: Arc::clone(subject),
                },
            ),
            TokenSource::BrokerOwned(identity) => (&identity.cloud, Who::BrokerOwned(Arc::clone(identity))),
        };
        Self {
            cloud: Arc::clone(cloud),
            who,
        }
    }
}
