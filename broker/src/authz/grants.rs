//! What a grant allows: one rule, field by field, that the decision, its explanation and its rehearsal share. Pure.

use std::sync::Arc;

use proto::types::{AzureId, RegistryHost, ScopeSet, TenantId};
use runtime::Secret;

use crate::{
    authn::Subject,
    config::{Cloud, Grant, GrantMode, GrantModes, GrantedClients, GrantedIdentity, Identity},
    names,
};

/// The only kind of scope that a list of repositories can be about.
const REPOSITORY: &str = "repository";

/// What a request asks of the grants, once everything else allows it. Every part is in its canonical form.
pub struct Asked<'a> {
    /// Name of the caller's cluster.
    pub cluster: &'a str,
    /// Namespace of the binding, and of the subject token if there is one.
    pub namespace: &'a str,
    /// ServiceAccounts that will be linked.
    pub service_accounts: &'a [String],
    /// Whose rights.
    pub identity: AskedIdentity<'a>,
    /// Where.
    pub registry: &'a RegistryHost,
    /// What for.
    pub scopes: &'a ScopeSet,
}

/// Whose rights a request asks for.
pub enum AskedIdentity<'a> {
    /// Those of an identity that trusts a ServiceAccount of the cluster.
    Federated {
        /// Its cloud.
        cloud: &'a Arc<Cloud>,
        /// Its tenant: the one that is named, or the default of the cluster.
        tenant: &'a TenantId,
        /// Its client ID.
        client: &'a AzureId,
        /// The ServiceAccount.
        subject: &'a Subject,
        /// The ServiceAccount's token. No grant is about it.
        assertion: &'a Secret,
    },
    /// Those of a declared identity.
    BrokerOwned(&'a Arc<Identity>),
}

/// What the grants say to a request that may have what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It needs no grant: it is federated, and its cluster leaves those to Entra ID.
    NotNeeded,
    /// This one allows it.
    Granted(Arc<str>),
    /// None allows it, and its cluster only reports that.
    ReportOnly,
}

/// A field of a grant, by which it may miss a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Another identity, or the other kind of one.
    Identity,
    /// Of federated identities.
    Cloud,
    /// Of federated identities.
    Tenants,
    /// Of federated identities.
    Clients,
    /// The caller's cluster.
    Clusters,
    /// The binding's namespace.
    Namespaces,
    /// Each ServiceAccount, the one of the subject token included.
    ServiceAccounts,
    /// The registry.
    Registries,
    /// The repository of each scope.
    Repositories,
    /// The actions of each scope.
    Actions,
    /// For requests without a scope.
    RegistryWide,
}

/// The fields of `grant` that do not allow what is asked; none: it allows all of it. Lazy, so that the first miss is all
/// that a decision costs.
pub fn misses<'a>(grant: &'a Grant, asked: &'a Asked<'a>) -> impl Iterator<Item = Field> + 'a {
    Field::ALL.into_iter().filter(|field| !field.allows(grant, asked))
}

/// What the grants say; none: they deny. One grant must allow all of it: two grants that each allow half are no grant.
pub(super) fn decide(asked: &Asked<'_>, grants: &[Grant], modes: GrantModes) -> Option<Decision> {
    let Some(mode) = asked.identity.mode(modes) else {
        return Some(Decision::NotNeeded);
    };
    let allowing = grants.iter().find(|grant| misses(grant, asked).next().is_none());
    match (allowing, mode) {
        (Some(grant), _) => Some(Decision::Granted(Arc::clone(&grant.name))),
        (None, GrantMode::Report) => Some(Decision::ReportOnly),
        (None, GrantMode::Enforce) => None,
    }
}

impl AskedIdentity<'_> {
    /// What its kind of request needs of the grants; none: nothing.
    fn mode(&self, modes: GrantModes) -> Option<GrantMode> {
        match self {
            Self::Federated { .. } => modes.federated,
            Self::BrokerOwned(_) => Some(modes.broker_owned),
        }
    }
}

impl Asked<'_> {
    /// Every ServiceAccount that would have a part in it.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &str> {
        let of_token = match &self.identity {
            AskedIdentity::Federated { subject, .. } => Some(&*subject.name),
            AskedIdentity::BrokerOwned(_) => None,
        };
        self.service_accounts.iter().map(String::as_str).chain(of_token)
    }
}

impl Field {
    /// All, those first that most grants miss by.
    const ALL: [Self; 11] = [
        Self::Identity,
        Self::Clusters,
        Self::Namespaces,
        Self::Registries,
        Self::ServiceAccounts,
        Self::Clients,
        Self::Tenants,
        Self::Cloud,
        Self::RegistryWide,
        Self::Repositories,
        Self::Actions,
    ];

    fn allows(self, grant: &Grant, asked: &Asked<'_>) -> bool {
        match self {
            Self::Identity => match (&grant.identity, &asked.identity) {
                (GrantedIdentity::BrokerOwned(name), AskedIdentity::BrokerOwned(identity)) => {
                    *name == identity.name
                }
                (GrantedIdentity::Federated(_), AskedIdentity::Federated { .. }) => true,
                (GrantedIdentity::BrokerOwned(_), AskedIdentity::Federated { .. })
                | (GrantedIdentity::Federated(_), AskedIdentity::BrokerOwned(_)) => false,
            },
            Self::Cloud => {
                federated(grant, asked).is_none_or(|(listed, cloud, ..)| *listed.cloud == *cloud.name)
            }
            Self::Tenants => {
                federated(grant, asked).is_none_or(|(listed, _, tenant, _)| listed.tenants.contains(tenant))
            }
            Self::Clients => {
                federated(grant, asked).is_none_or(|(listed, .., client)| listed.clients.contains(client))
            }
            Self::Clusters => grant.clusters.iter().any(|name| name == asked.cluster),
            Self::Namespaces => grant
                .namespaces
                .iter()
                .any(|pattern| pattern.matches(asked.namespace)),
            Self::ServiceAccounts => {
                !asked.service_accounts.is_empty()
                    && asked.accounts().all(|account| allows_account(grant, account))
            }
            Self::Registries => grant.registries.contains(asked.registry),
            Self::Repositories => asked
                .scopes
                .iter()
                .all(|scope| allows_repository(grant, &scope.kind, &scope.name)),
            Self::Actions => asked.scopes.iter().all(|scope| {
                !scope.actions.is_empty() && scope.actions.iter().all(|action| grant.actions.contains(action))
            }),
            // Without a scope the token can do all that the identity may do: no list of repositories covers that.
            Self::RegistryWide => !asked.scopes.is_empty() || grant.registry_wide,
        }
    }
}

/// The two sides of a comparison, where both are federated.
pub(super) fn federated<'a>(
    grant: &'a Grant,
    asked: &'a Asked<'_>,
) -> Option<(&'a GrantedClients, &'a Cloud, &'a TenantId, &'a AzureId)> {
    match (&grant.identity, &asked.identity) {
        (
            GrantedIdentity::Federated(listed),
            AskedIdentity::Federated {
                cloud,
                tenant,
                client,
                ..
            },
        ) => Some((listed, cloud, tenant, client)),
        (GrantedIdentity::BrokerOwned(_), _) | (_, AskedIdentity::BrokerOwned(_)) => None,
    }
}

pub(super) fn allows_account(grant: &Grant, account: &str) -> bool {
    grant
        .service_accounts
        .iter()
        .any(|pattern| pattern.matches(account))
}

/// A name that is not in the one form of repository names matches nothing, not even `*`: whether it means the repository
/// that it looks like would be for the registry to say.
pub(super) fn allows_repository(grant: &Grant, kind: &str, name: &str) -> bool {
    kind == REPOSITORY
        && names::is_repository(name)
        && grant.repositories.iter().any(|pattern| pattern.matches(name))
}
