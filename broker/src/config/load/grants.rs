//! The grants, and what a cluster's requests need of them. What could never match is refused: it is a mistake. Only a cluster
//! that is gone is none.

use std::sync::Arc;

use proto::types::RegistryHost;

use super::field::{ConfigError, all, content};
use crate::{
    config::{
        Cloud, Clouds, ClusterConfig, Grant, GrantMode, GrantModes, GrantedClients, GrantedIdentity,
        Identity, Pattern, file,
    },
    names,
};

pub(super) fn modes(modes: &file::GrantModes) -> GrantModes {
    let file::GrantModes {
        broker_owned,
        federated,
    } = modes;
    GrantModes {
        broker_owned: match broker_owned {
            file::BrokerOwnedGrants::Enforce => GrantMode::Enforce,
            file::BrokerOwnedGrants::Report => GrantMode::Report,
        },
        federated: match federated {
            file::FederatedGrants::Off => None,
            file::FederatedGrants::Report => Some(GrantMode::Report),
            file::FederatedGrants::Enforce => Some(GrantMode::Enforce),
        },
    }
}

/// The clusters of a grant that the file does not know, in words. They allow nothing, and refuse nothing either: who takes a
/// cluster out of the file must not have to find its grants first, while the cluster is still served.
pub(super) fn unknown_clusters(field: &str, grant: &file::Grant, clusters: &[ClusterConfig]) -> Vec<String> {
    grant
        .clusters
        .iter()
        .filter(|name| clusters.iter().all(|cluster| *cluster.name != ***name))
        .map(|unknown| format!("{field}.clusters: {unknown:?} is not a cluster of this file"))
        .collect()
}

pub(super) fn grant(
    field: &str,
    grant: file::Grant,
    identities: &[Arc<Identity>],
    clouds: &Clouds,
) -> Result<Grant, ConfigError> {
    let file::Grant {
        name,
        clusters: for_clusters,
        namespaces,
        service_accounts,
        identity,
        federated,
        registries,
        repositories,
        actions,
        registry_wide,
    } = grant;
    let path = |name: &str| format!("{field}.{name}");
    for (list, name) in [
        (&for_clusters, "clusters"),
        (&namespaces, "namespaces"),
        (&service_accounts, "serviceAccounts"),
        (&registries, "registries"),
        (&actions, "actions"),
    ] {
        not_empty(path(name), list)?;
    }
    if repositories.is_empty() && !registry_wide {
        return Err(content(
            path("repositories"),
            "list repositories, or set registryWide: true",
        ));
    }
    if let Some(wrong) = actions.iter().find(|action| !is_action(action)) {
        return Err(content(
            path("actions"),
            format!("{wrong:?} can match nothing: write each action by itself, in lower case, such as pull"),
        ));
    }
    let (identity, cloud) = match (identity, federated) {
        (Some(name), None) => broker_owned(path("identity"), &name, identities)?,
        (None, Some(clients)) => self::federated(&path("federated"), clients, clouds)?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(content(field, "set exactly one of identity and federated"));
        }
    };
    Ok(Grant {
        name: name.into(),
        clusters: for_clusters,
        namespaces: patterns(path("namespaces"), &namespaces, names::is_namespace, "namespace")?,
        service_accounts: patterns(
            path("serviceAccounts"),
            &service_accounts,
            names::is_object_name,
            "ServiceAccount",
        )?,
        identity,
        registries: registries_of(&cloud, &path("registries"), &registries)?,
        repositories: patterns(
            path("repositories"),
            &repositories,
            names::is_repository,
            "repository",
        )?,
        actions,
        registry_wide,
    })
}

fn broker_owned(
    field: String,
    name: &str,
    identities: &[Arc<Identity>],
) -> Result<(GrantedIdentity, Arc<Cloud>), ConfigError> {
    let identity = identities
        .iter()
        .find(|declared| *declared.name == *name)
        .ok_or_else(|| content(field, format!("{name:?} is not an identity of this file")))?;
    Ok((
        GrantedIdentity::BrokerOwned(Arc::clone(&identity.name)),
        Arc::clone(&identity.cloud),
    ))
}

fn federated(
    field: &str,
    clients: file::GrantedClients,
    clouds: &Clouds,
) -> Result<(GrantedIdentity, Arc<Cloud>), ConfigError> {
    let file::GrantedClients {
        cloud,
        tenants,
        client_ids,
    } = clients;
    let [of_tenants, of_clients] = ["tenants", "clientIds"].map(|name| format!("{field}.{name}"));
    let cloud = clouds.named(&cloud).ok_or_else(|| {
        content(
            format!("{field}.cloud"),
            format!("{cloud:?} is not a cloud of this file, nor one that is built in"),
        )
    })?;
    not_empty(of_tenants.clone(), &tenants)?;
    not_empty(of_clients.clone(), &client_ids)?;
    let clients = GrantedClients {
        cloud: Arc::clone(&cloud.name),
        tenants: all(&of_tenants, &tenants)?,
        clients: all(&of_clients, &client_ids)?,
    };
    Ok((GrantedIdentity::Federated(clients), Arc::clone(cloud)))
}

fn not_empty(field: String, list: &[String]) -> Result<(), ConfigError> {
    if list.is_empty() {
        return Err(content(
            field,
            "must have at least one entry; a grant without one allows nothing",
        ));
    }
    Ok(())
}

fn registries_of(cloud: &Cloud, field: &str, texts: &[String]) -> Result<Vec<RegistryHost>, ConfigError> {
    let registries: Vec<RegistryHost> = all(field, texts)?;
    if let Some(outside) = registries.iter().find(|registry| !cloud.allows(registry)) {
        return Err(content(
            field,
            format!(
                "{outside} can match nothing: it is not among the registries of the identity's cloud {}, {}",
                cloud.name, cloud.registries
            ),
        ));
    }
    Ok(registries)
}

fn patterns(
    field: String,
    texts: &[String],
    is_name: fn(&str) -> bool,
    what: &str,
) -> Result<Vec<Pattern>, ConfigError> {
    if let Some(wrong) = texts.iter().find(|text| !names::could_match(text, is_name)) {
        return Err(content(
            field,
            format!(
                "{wrong:?} can match nothing: no {what} has such a name; write it in lower case, with * for any text"
            ),
        ));
    }
    Ok(texts.iter().map(|text| Pattern::new(text)).collect())
}

/// As in scopes. `*` is an action of its own there, and means itself here too.
fn is_action(text: &str) -> bool {
    text == "*" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
}
