//! The grants that a broker needs for these bindings: all that they ask for, and no more than its grants can say. Pure.
//!
//! One grant per identity, registry and kind of access; namespaces that ask for the same share one. Within a namespace,
//! ServiceAccounts and repositories go together: a Pod there can use every Secret of it anyway. What the broker would
//! refuse in its configuration is left out, with the reason.

mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use proto::types::{Scope, is_repository};
use serde::Serialize;

pub(super) use self::yaml::on_one_line_each;
use super::{assess::Assessed, object::Object};
use crate::{
    args::PreflightArgs,
    crd::AzureEnvironment,
    wanted::{Identity, Wanted},
};

/// The only kind of scope that grants are about.
const REPOSITORY: &str = "repository";
/// Stands for what only the operator knows. The broker refuses it as a tenant, and warns of it as a cluster.
const FILL_IN: &str = "FILL-IN";
/// The clouds that the broker has built in, with the domain of their registries.
const BUILT_IN: [(AzureEnvironment, &str); 3] = [
    (AzureEnvironment::PublicCloud, "azurecr.io"),
    (AzureEnvironment::USGovernmentCloud, "azurecr.us"),
    (AzureEnvironment::ChinaCloud, "azurecr.cn"),
];

/// Two sections of the broker's configuration, and what is not in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sections {
    pub(super) identities: Vec<Declared>,
    pub(super) grants: Vec<Grant>,
    pub(super) left_out: Vec<LeftOut>,
}

/// An entry of `identities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Declared {
    name: String,
    cloud: String,
    tenant: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    source: &'static str,
}

/// An entry of `grants`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Grant {
    name: String,
    clusters: Vec<String>,
    namespaces: BTreeSet<String>,
    service_accounts: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    federated: Option<Federated>,
    registries: Vec<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    repositories: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    actions: BTreeSet<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    registry_wide: bool,
}

/// The field `federated` of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Federated {
    cloud: String,
    tenants: Vec<String>,
    client_ids: Vec<String>,
}

/// A binding that no printed grant allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeftOut {
    pub(super) binding: Object,
    pub(super) why: String,
}

/// Whose rights.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    ClientId(String),
    ResourceId(String),
    Federated { tenant: String, client_id: String },
}

/// What one grant is about, its ServiceAccounts, repositories and namespaces aside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Access {
    cloud: String,
    who: Who,
    registry: String,
    /// Empty for all of the registry.
    actions: BTreeSet<String>,
}

/// The parts of a grant in which bindings of one namespace add up.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Extent {
    service_accounts: BTreeSet<String>,
    repositories: BTreeSet<String>,
}

/// Why the broker serves this only after its configuration names the cloud, if that is so.
pub(super) fn undeclared_cloud(wanted: &Wanted) -> Option<String> {
    let built_in = BUILT_IN
        .iter()
        .find(|(environment, _domain)| environment.as_str() == wanted.cloud.name);
    match built_in {
        None => Some(format!(
            "the broker has no built-in cloud with the authority {}",
            wanted.cloud.authority_host
        )),
        Some((_environment, domain)) if !wanted.registry.is_under(domain) => Some(format!(
            "registry {} is not under {domain}, the domain of {}",
            wanted.registry, wanted.cloud.name
        )),
        Some(_) => None,
    }
}

/// The first scope that no grant can allow.
pub(super) fn not_grantable(wanted: &Wanted) -> Option<String> {
    let can_be = |scope: &Scope| {
        scope.kind == REPOSITORY
            && is_repository(&scope.name)
            && scope.actions.iter().all(|action| is_action(action))
    };
    let mut scopes = wanted.scopes.iter();
    scopes.find(|scope| !can_be(scope)).map(ToString::to_string)
}

/// As the broker's grants write them; `*` is one by itself.
fn is_action(text: &str) -> bool {
    text == "*" || text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Whether a ServiceAccount can have the name. In a grant a `*` would stand for any: whoever writes a binding must not
/// write such a grant.
fn is_account(name: &str) -> bool {
    let is_ok = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !name.is_empty() && name.bytes().all(is_ok)
}

/// Why no grant is printed for this, if that is so.
fn refused(wanted: &Wanted, accounts: &[&str]) -> Option<String> {
    if let Some(account) = accounts.iter().find(|account| !is_account(account)) {
        return Some(format!("no ServiceAccount can be named {account:?}"));
    }
    undeclared_cloud(wanted)
        .or_else(|| not_grantable(wanted).map(|scope| format!("no grant can allow scope {scope}")))
}

/// The grants for `assessed`. A binding that is refused or being deleted needs none.
pub(super) fn all(assessed: &[Assessed], args: &PreflightArgs) -> Sections {
    let mut extents: BTreeMap<(Access, String), Extent> = BTreeMap::new();
    let mut left_out = Vec::new();
    for assessed in assessed.iter().filter(|assessed| !assessed.is_leaving()) {
        let Ok(wanted) = &assessed.wanted else {
            continue;
        };
        if matches!(wanted.identity, Identity::Federated { .. }) && !args.federated_grants {
            continue;
        }
        // A grant has to allow all of them at once.
        let accounts = assessed.binding.spec.accounts();
        if let Some(why) = refused(wanted, &accounts) {
            let binding = Object::binding(assessed.binding.api, &assessed.binding.metadata);
            left_out.push(LeftOut { binding, why });
            continue;
        }
        let key = (Access::of(wanted, args), assessed.name().namespace);
        let extent = extents.entry(key).or_default();
        extent
            .service_accounts
            .extend(accounts.into_iter().map(str::to_owned));
        if let Identity::Federated { service_account, .. } = &wanted.identity {
            extent.service_accounts.insert(service_account.clone());
        }
        extent
            .repositories
            .extend(wanted.scopes.iter().map(|scope| scope.name.clone()));
    }
    let mut shared: BTreeMap<(Access, Extent), BTreeSet<String>> = BTreeMap::new();
    for ((access, namespace), extent) in extents {
        shared.entry((access, extent)).or_default().insert(namespace);
    }
    named(shared, left_out, args)
}

/// Gives identities and grants their names, each unique.
fn named(
    shared: BTreeMap<(Access, Extent), BTreeSet<String>>,
    left_out: Vec<LeftOut>,
    args: &PreflightArgs,
) -> Sections {
    let cluster = args.cluster.as_deref().unwrap_or(FILL_IN);
    let mut identity_names = Names::default();
    let mut grant_names = Names::default();
    let mut declared: BTreeMap<(String, Who), Declared> = BTreeMap::new();
    let mut grants = Vec::new();
    for ((access, extent), namespaces) in shared {
        let Access {
            cloud,
            who,
            registry,
            actions,
        } = access;
        let (identity, federated) = match &who {
            Who::Federated { tenant, client_id } => {
                let federated = Federated {
                    cloud,
                    tenants: vec![tenant.clone()],
                    client_ids: vec![client_id.clone()],
                };
                (None, Some(federated))
            }
            Who::ClientId(_) | Who::ResourceId(_) => {
                let entry = declared
                    .entry((cloud.clone(), who.clone()))
                    .or_insert_with(|| Declared::new(identity_names.unique(&who.name()), cloud, &who, args));
                (Some(entry.name.clone()), None)
            }
        };
        grants.push(Grant {
            name: grant_names.unique(&grant_name(&namespaces, &registry)),
            clusters: vec![cluster.to_owned()],
            namespaces,
            service_accounts: extent.service_accounts,
            identity,
            federated,
            registries: vec![registry],
            registry_wide: extent.repositories.is_empty(),
            repositories: extent.repositories,
            actions,
        });
    }
    Sections {
        identities: declared.into_values().collect(),
        grants,
        left_out,
    }
}

/// `shop-prod` for namespace shop at prod.azurecr.io, `shop-and-2-more-prod` for three namespaces.
fn grant_name(namespaces: &BTreeSet<String>, registry: &str) -> String {
    let registry = registry.split('.').next().unwrap_or_default();
    let first = namespaces.first().map_or("", String::as_str);
    match namespaces.len() {
        0 | 1 => format!("{first}-{registry}"),
        more => format!("{first}-and-{}-more-{registry}", more - 1),
    }
}

impl Access {
    fn of(wanted: &Wanted, args: &PreflightArgs) -> Self {
        let who = match &wanted.identity {
            Identity::ClientId(id) => Who::ClientId(id.to_string()),
            Identity::ResourceId(id) => Who::ResourceId(id.to_string()),
            Identity::Federated {
                service_account: _,
                client_id,
                tenant_id,
            } => Who::Federated {
                tenant: tenant_id
                    .as_ref()
                    .map_or_else(|| default_tenant(args), ToString::to_string),
                client_id: client_id.to_string(),
            },
        };
        Self {
            cloud: wanted.cloud.name.clone(),
            who,
            registry: wanted.registry.to_string(),
            actions: wanted
                .scopes
                .iter()
                .flat_map(|scope| scope.actions.iter().cloned())
                .collect(),
        }
    }
}

impl Declared {
    fn new(name: String, cloud: String, who: &Who, args: &PreflightArgs) -> Self {
        let (client_id, resource_id) = match who {
            Who::ClientId(id) => (Some(id.clone()), None),
            Who::ResourceId(id) => (None, Some(id.clone())),
            Who::Federated { .. } => (None, None),
        };
        Self {
            name,
            cloud,
            tenant: default_tenant(args),
            client_id,
            resource_id,
            source: "imds",
        }
    }
}

impl Who {
    fn name(&self) -> String {
        match self {
            Self::ClientId(id) | Self::Federated { client_id: id, .. } => format!("client-{id}"),
            Self::ResourceId(id) => id.rsplit('/').next().unwrap_or_default().to_owned(),
        }
    }
}

fn default_tenant(args: &PreflightArgs) -> String {
    args.tenant
        .as_ref()
        .map_or_else(|| FILL_IN.to_owned(), ToString::to_string)
}

/// Names that were given out.
#[derive(Debug, Default)]
struct Names(BTreeSet<String>);

impl Names {
    /// `wanted`, or the first of `wanted-2`, `wanted-3`, ... that is free.
    fn unique(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 1;
        while !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{wanted}-{number}");
        }
        name
    }
}

#[cfg(test)]
mod tests;
