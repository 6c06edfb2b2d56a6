//! Clusters: whom they are run by, whose keys vouch for them, and what they may ask for at most.

use std::collections::BTreeMap;

use url::Url;

use super::{
    Folder,
    field::{ConfigError, all, content, https, optional},
    workloads,
};
use crate::{
    authn::{KeySet, ServiceAccount},
    config::{ClusterConfig, JwksUrl, KeySource, file},
};

pub(super) fn cluster(
    folder: &mut Folder,
    field: &str,
    cluster: file::Cluster,
) -> Result<ClusterConfig, ConfigError> {
    let file::Cluster {
        name,
        issuer,
        jwks,
        caller_audiences,
        subject_audiences,
        syncers,
        operators,
        workloads: for_themselves,
        default_tenant,
        ceilings,
    } = cluster;
    https(&format!("{field}.issuer"), &issuer)?;
    for (list, what) in [
        (&caller_audiences, "callerAudiences"),
        (&subject_audiences, "subjectAudiences"),
        (&syncers, "syncers"),
    ] {
        if list.is_empty() || list.iter().any(String::is_empty) {
            return Err(content(
                format!("{field}.{what}"),
                "must have at least one entry, and no empty one",
            ));
        }
    }
    if let Some(both) = caller_audiences
        .iter()
        .find(|audience| subject_audiences.contains(audience))
    {
        return Err(content(
            format!("{field}.subjectAudiences"),
            format!("{both:?} is also a caller audience: a token must never serve both purposes"),
        ));
    }
    for (list, what) in [(&syncers, "syncers"), (&operators, "operators")] {
        if let Some(wrong) = list.iter().find(|sub| ServiceAccount::parse(sub).is_none()) {
            return Err(content(
                format!("{field}.{what}"),
                format!("{wrong:?} must be system:serviceaccount:<namespace>:<name>"),
            ));
        }
    }
    Ok(ClusterConfig {
        keys: keys(folder, &format!("{field}.jwks"), jwks)?,
        name: name.into(),
        issuer,
        caller_audiences,
        subject_audiences,
        syncers,
        operators,
        workloads: workloads::workloads(&format!("{field}.workloads"), for_themselves)?,
        default_tenant: optional(&format!("{field}.defaultTenant"), default_tenant)?,
        tenant_ceiling: all(&format!("{field}.ceilings.tenants"), &ceilings.tenants)?,
        registry_ceiling: all(&format!("{field}.ceilings.registries"), &ceilings.registries)?,
    })
}

fn keys(folder: &mut Folder, field: &str, jwks: file::Jwks) -> Result<KeySource, ConfigError> {
    let file::Jwks {
        file,
        inline,
        url,
        ca_bundle,
        token_file,
    } = jwks;
    if url.is_none() && (ca_bundle.is_some() || token_file.is_some()) {
        return Err(content(field, "caBundle and tokenFile belong to url"));
    }
    let fixed = |text: &str, field: String| {
        KeySet::parse(text.as_bytes())
            .map(KeySource::Fixed)
            .map_err(|error| content(field, error))
    };
    match (file, inline, url) {
        (Some(path), None, None) => {
            let field = format!("{field}.file");
            let text = folder.read_text(&folder.resolve(path), &field)?;
            fixed(&text, field)
        }
        (None, Some(text), None) => fixed(&text, format!("{field}.inline")),
        (None, None, Some(url)) => {
            let source = JwksUrl {
                url: https(&format!("{field}.url"), &url)?,
                ca_bundle: ca_bundle.map(|path| folder.resolve(path)),
                token_file: token_file.map(|path| folder.resolve(path)),
            };
            for (path, name) in [(&source.ca_bundle, "caBundle"), (&source.token_file, "tokenFile")] {
                if let Some(path) = path {
                    folder.read_text(path, &format!("{field}.{name}"))?;
                }
            }
            Ok(KeySource::Url(source))
        }
        _ => Err(content(field, "set exactly one of file, inline and url")),
    }
}

/// Two clusters with one key could speak for each other.
pub(super) fn distinct_keys(clusters: &[ClusterConfig]) -> Result<(), ConfigError> {
    let mut owners = BTreeMap::<Vec<u8>, &str>::new();
    let mut urls = BTreeMap::<&Url, &str>::new();
    for cluster in clusters {
        match &cluster.keys {
            KeySource::Fixed(keys) => {
                for key in keys.thumbprints() {
                    if let Some(owner) = owners.insert(key, &cluster.name) {
                        return Err(content(
                            "clusters",
                            format!(
                                "{owner:?} and {:?} share a signing key: each could speak for the other",
                                cluster.name
                            ),
                        ));
                    }
                }
            }
            KeySource::Url(source) => {
                if let Some(owner) = urls.insert(&source.url, &cluster.name) {
                    return Err(content(
                        "clusters",
                        format!(
                            "{owner:?} and {:?} share a JWKS URL: each could speak for the other",
                            cluster.name
                        ),
                    ));
                }
            }
        }
    }
    Ok(())
}
