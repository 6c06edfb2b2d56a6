//! Which grants come nearest to a request that none allows, and by what they miss it, in words for operators: it says what
//! is granted to others. Pure.

use std::{collections::BTreeSet, fmt};

use proto::types::{AzureId, RegistryHost, Scope, TenantId};
use serde::Serialize;

use super::grants::{Asked, Field, allows_account, allows_repository, federated, misses};
use crate::config::{Grant, Pattern};

/// Entries of a list that are written out at most.
const MAX_ENTRIES: usize = 10;

/// A grant for the same identity, or for federated ones if the request is.
#[derive(Debug, Serialize)]
pub struct Near<'a> {
    /// The grant's name.
    pub grant: &'a str,
    /// By what it misses the request; empty if it allows it.
    pub misses: Vec<Miss>,
}

/// A field of a grant that does not allow what is asked.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Miss {
    /// Its name in the configuration.
    pub field: &'static str,
    /// What of the request it does not allow.
    pub asked: String,
    /// What it lists.
    pub lists: String,
}

/// The grants that come nearest, those with the fewest misses first, and `most` of them at most.
pub fn nearest<'a>(grants: &'a [Grant], asked: &Asked<'_>, most: usize) -> Vec<Near<'a>> {
    let mut near: Vec<(&Grant, Vec<Field>)> = grants
        .iter()
        .map(|grant| (grant, misses(grant, asked).collect::<Vec<_>>()))
        .filter(|(_grant, missing)| !missing.contains(&Field::Identity))
        .collect();
    near.sort_by_key(|(_grant, missing)| missing.len());
    near.truncate(most);
    near.into_iter()
        .map(|(grant, missing)| Near {
            grant: &grant.name,
            misses: missing
                .into_iter()
                .filter_map(|field| field.miss(grant, asked))
                .collect(),
        })
        .collect()
}

impl fmt::Display for Near<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.grant)?;
        for (position, Miss { field, asked, lists }) in self.misses.iter().enumerate() {
            let separator = if position == 0 { " misses" } else { " and" };
            write!(f, "{separator} {field} (asked {asked}, lists {lists})")?;
        }
        Ok(())
    }
}

impl Field {
    /// None where there is nothing to compare: a grant for another kind of identity.
    fn miss(self, grant: &Grant, asked: &Asked<'_>) -> Option<Miss> {
        Some(match self {
            Self::Identity => return None,
            Self::Cloud => {
                let (listed, cloud, ..) = federated(grant, asked)?;
                Miss::new("federated.cloud", &*cloud.name, &*listed.cloud)
            }
            Self::Tenants => {
                let (listed, _, tenant, _) = federated(grant, asked)?;
                let lists = some(listed.tenants.iter().map(TenantId::as_str));
                Miss::new("federated.tenants", tenant.as_str(), lists)
            }
            Self::Clients => {
                let (listed, .., client) = federated(grant, asked)?;
                let lists = some(listed.clients.iter().map(AzureId::as_str));
                Miss::new("federated.clientIds", client.as_str(), lists)
            }
            Self::Clusters => Miss::new("clusters", asked.cluster, strings(&grant.clusters)),
            Self::Namespaces => Miss::new("namespaces", asked.namespace, patterns(&grant.namespaces)),
            Self::ServiceAccounts => {
                let missing = asked.accounts().filter(|account| !allows_account(grant, account));
                let missing: BTreeSet<&str> = missing.collect();
                let lists = patterns(&grant.service_accounts);
                Miss::new("serviceAccounts", some(missing.into_iter()), lists)
            }
            Self::Registries => {
                let lists = some(grant.registries.iter().map(RegistryHost::as_str));
                Miss::new("registries", asked.registry.as_str(), lists)
            }
            Self::Repositories => {
                let missing = asked
                    .scopes
                    .iter()
                    .filter(|scope| !allows_repository(grant, &scope.kind, &scope.name));
                let missing: Vec<String> = missing.map(resource).collect();
                Miss::new("repositories", strings(&missing), patterns(&grant.repositories))
            }
            Self::Actions => {
                let actions = asked.scopes.iter().flat_map(|scope| &scope.actions);
                let missing: BTreeSet<&str> = actions
                    .filter(|action| !grant.actions.contains(action))
                    .map(String::as_str)
                    .collect();
                Miss::new("actions", some(missing.into_iter()), strings(&grant.actions))
            }
            Self::RegistryWide => {
                let asked = "no scope, which is all that the identity may do";
                Miss::new("registryWide", asked, grant.registry_wide.to_string())
            }
        })
    }
}

impl Miss {
    fn new(field: &'static str, asked: impl Into<String>, lists: impl Into<String>) -> Self {
        Self {
            field,
            asked: asked.into(),
            lists: lists.into(),
        }
    }
}

fn resource(scope: &Scope) -> String {
    format!("{}:{}", scope.kind, scope.name)
}

fn strings(entries: &[String]) -> String {
    some(entries.iter().map(String::as_str))
}

fn patterns(entries: &[Pattern]) -> String {
    some(entries.iter().map(Pattern::as_str))
}

/// The first entries, and how many more there are.
fn some<'t>(entries: impl Iterator<Item = &'t str>) -> String {
    let entries: Vec<&str> = entries.collect();
    let (first, more) = entries.split_at(entries.len().min(MAX_ENTRIES));
    match (first, more) {
        ([], _) => "nothing".to_owned(),
        (first, []) => first.join(", "),
        (first, more) => format!("{} and {} more", first.join(", "), more.len()),
    }
}
