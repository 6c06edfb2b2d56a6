//! The grants to use broker-owned identities.

use std::sync::Arc;

use super::field::{ConfigError, all, content};
use crate::config::{ClusterConfig, Grant, Identity, Pattern, file};

pub(super) fn grant(
    field: &str,
    grant: file::Grant,
    identities: &[Arc<Identity>],
    clusters: &[ClusterConfig],
) -> Result<Grant, ConfigError> {
    let file::Grant {
        name,
        clusters: for_clusters,
        namespaces,
        service_accounts,
        identity,
        registries,
        repositories,
        actions,
        registry_wide,
    } = grant;
    if let Some(unknown) = for_clusters
        .iter()
        .find(|name| clusters.iter().all(|cluster| *cluster.name != ***name))
    {
        return Err(content(
            format!("{field}.clusters"),
            format!("{unknown:?} is not a cluster of this file"),
        ));
    }
    let identity = identities
        .iter()
        .find(|declared| *declared.name == *identity)
        .ok_or_else(|| {
            content(
                format!("{field}.identity"),
                format!("{identity:?} is not an identity of this file"),
            )
        })?;
    for (list, what) in [
        (&for_clusters, "clusters"),
        (&namespaces, "namespaces"),
        (&service_accounts, "serviceAccounts"),
        (&registries, "registries"),
    ] {
        if list.is_empty() {
            return Err(content(
                format!("{field}.{what}"),
                "must have at least one entry; a grant without one allows nothing",
            ));
        }
    }
    if repositories.is_empty() && !registry_wide {
        return Err(content(
            format!("{field}.repositories"),
            "list repositories, or set registryWide: true",
        ));
    }
    let patterns = |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect();
    Ok(Grant {
        name: name.into(),
        clusters: for_clusters,
        namespaces: patterns(&namespaces),
        service_accounts: patterns(&service_accounts),
        identity: Arc::clone(&identity.name),
        registries: all(&format!("{field}.registries"), &registries)?,
        repositories: patterns(&repositories),
        actions,
        registry_wide,
    })
}
