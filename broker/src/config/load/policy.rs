//! Clouds, broker-owned identities and the grants to use them.

use std::{collections::BTreeSet, sync::Arc};

use super::field::{ConfigError, all, content, https, one, optional};
use crate::config::{
    Cloud, Clouds, ClusterConfig, Grant, Identity, Pattern, clouds::REGISTRY_AUDIENCE, file,
};

pub(super) fn cloud(field: &str, cloud: file::Cloud) -> Result<Arc<Cloud>, ConfigError> {
    let file::Cloud {
        name,
        authority,
        registry_suffixes,
        registry_audience,
    } = cloud;
    let authority = https(&format!("{field}.authority"), &authority)?;
    if authority.path() != "/" || authority.query().is_some() {
        return Err(content(format!("{field}.authority"), "must have no path"));
    }
    let suffix_is_bad = |suffix: &String| {
        suffix.is_empty()
            || suffix.starts_with('.')
            || *suffix != suffix.to_ascii_lowercase()
            || !suffix.contains('.')
    };
    if registry_suffixes.is_empty() || registry_suffixes.iter().any(suffix_is_bad) {
        return Err(content(
            format!("{field}.registrySuffixes"),
            "must list domains such as azurecr.io: lower case, at least two labels, no leading dot",
        ));
    }
    let registry_audience = registry_audience.unwrap_or_else(|| REGISTRY_AUDIENCE.to_owned());
    Ok(Arc::new(Cloud {
        name: name.into(),
        authority,
        registry_suffixes,
        registry_audience,
    }))
}

pub(super) fn identity(
    field: &str,
    identity: file::Identity,
    clouds: &Clouds,
) -> Result<Arc<Identity>, ConfigError> {
    let file::Identity {
        name,
        cloud,
        tenant,
        client_id,
        resource_id,
        source: _imds,
    } = identity;
    if client_id.is_none() && resource_id.is_none() {
        return Err(content(field, "set clientId, resourceId, or both"));
    }
    let cloud = clouds.named(&cloud).ok_or_else(|| {
        let known: Vec<&str> = clouds.iter().map(|cloud| &*cloud.name).collect();
        content(
            format!("{field}.cloud"),
            format!("{cloud:?} is not a cloud; known are {}", known.join(", ")),
        )
    })?;
    Ok(Arc::new(Identity {
        name: name.into(),
        cloud: Arc::clone(cloud),
        tenant: one(&format!("{field}.tenant"), &tenant)?,
        client_id: optional(&format!("{field}.clientId"), client_id)?,
        resource_id: optional(&format!("{field}.resourceId"), resource_id)?,
    }))
}

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

/// A request names an identity by client or resource id: it must mean one.
pub(super) fn distinct_identities(identities: &[Arc<Identity>]) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for identity in identities {
        let ids = [
            identity.client_id.as_ref().map(ToString::to_string),
            identity.resource_id.as_ref().map(ToString::to_string),
        ];
        for id in ids.into_iter().flatten() {
            if !seen.insert(id.clone()) {
                return Err(content("identities", format!("{id} is declared twice")));
            }
        }
    }
    Ok(())
}
