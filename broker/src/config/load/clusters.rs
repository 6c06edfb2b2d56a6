//! Clusters: whom they are run by, whose keys vouch for them, and what they may ask for at most.

use std::{collections::BTreeMap, fmt::Display, path::PathBuf, str::FromStr};

use aws_lc_rs::digest;
use runtime::{error_chain::ErrorChain, tls};
use url::Url;

use super::{
    Folder,
    field::{ConfigError, all, content, https, optional},
    limits,
    token_lifetime::token_lifetime,
    workloads,
};
use crate::{
    authn::{KeySet, ServiceAccount},
    config::{CaBundle, ClusterConfig, JwksUrl, KeySource, Limits, file},
    names,
};

pub(super) fn cluster(
    folder: &mut Folder,
    field: &str,
    cluster: file::Cluster,
    otherwise: &Limits,
) -> Result<ClusterConfig, ConfigError> {
    let file::Cluster {
        name,
        issuer,
        jwks,
        caller_audiences,
        subject_audiences,
        max_token_lifetime_seconds,
        syncers,
        operators,
        client_certificates,
        workloads: for_themselves,
        default_tenant,
        grants,
        ceilings,
        limits,
    } = cluster;
    issuer_url(&format!("{field}.issuer"), &issuer)?;
    for (list, what) in [
        (&caller_audiences, "callerAudiences"),
        (&subject_audiences, "subjectAudiences"),
        (&syncers, "syncers"),
    ] {
        if list.is_empty() || list.iter().any(|entry| is_blank_or_padded(entry)) {
            return Err(content(
                format!("{field}.{what}"),
                "must have at least one entry, none of them empty or with white space around it",
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
        if let Some(wrong) = list.iter().find(|sub| !is_service_account_subject(sub)) {
            return Err(content(
                format!("{field}.{what}"),
                format!(
                    "{wrong:?} must be system:serviceaccount:<namespace>:<name>, with the names of a namespace and of a ServiceAccount"
                ),
            ));
        }
    }
    Ok(ClusterConfig {
        keys: keys(folder, &format!("{field}.jwks"), jwks)?,
        name: name.into(),
        issuer,
        caller_audiences,
        subject_audiences,
        max_token_lifetime: token_lifetime(
            &format!("{field}.maxTokenLifetimeSeconds"),
            max_token_lifetime_seconds,
        )?,
        syncers,
        operators,
        client_certificates: only(
            &format!("{field}.clientCertificates"),
            client_certificates.as_deref(),
        )?,
        workloads: workloads::workloads(&format!("{field}.workloads"), for_themselves)?,
        default_tenant: optional(&format!("{field}.defaultTenant"), default_tenant)?,
        grant_modes: super::grants::modes(&grants),
        tenant_ceiling: only(&format!("{field}.ceilings.tenants"), ceilings.tenants.as_deref())?,
        registry_ceiling: only(
            &format!("{field}.ceilings.registries"),
            ceilings.registries.as_deref(),
        )?,
        limits: limits::limits(&format!("{field}.limits"), limits, otherwise)?,
    })
}

/// A list of what alone is allowed; empty where none is given. An empty one that is written could be meant to allow nothing,
/// and must not allow everything.
fn only<T: FromStr<Err: Display>>(field: &str, list: Option<&[String]>) -> Result<Vec<T>, ConfigError> {
    match list {
        Some([]) => Err(content(
            field,
            "must have at least one entry; leave it out for any",
        )),
        given => all(field, given.unwrap_or_default()),
    }
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
            let url = https(&format!("{field}.url"), &url)?;
            let bundle = |path| read_bundle(folder.resolve(path), format!("{field}.caBundle"), folder);
            let source = JwksUrl {
                url,
                ca_bundle: ca_bundle.map(bundle).transpose()?,
                token_file: token_file.map(|path| folder.resolve(path)),
            };
            if let Some(path) = &source.token_file {
                folder.check_text(path, &format!("{field}.tokenFile"))?;
            }
            Ok(KeySource::Url(source))
        }
        _ => Err(content(field, "set exactly one of file, inline and url")),
    }
}

fn read_bundle(path: PathBuf, field: String, folder: &mut Folder) -> Result<CaBundle, ConfigError> {
    let text = folder.read_text(&path, &field)?;
    tls::load_roots(&path).map_err(|error| content(field, ErrorChain(&error)))?;
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    Ok(CaBundle { path, digest: sha256 })
}

/// Two clusters with one key could speak for each other. Of keys that are fetched, [`KeyRing`](crate::authn::KeyRing) decides.
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

/// The text is compared with `iss` character by character, so it has no second spelling; `OpenID` Connect
/// Discovery 1.0 section 3 knows no query and no fragment in it.
fn issuer_url(field: &str, text: &str) -> Result<(), ConfigError> {
    let url = https(field, text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(content(
            field,
            format!("{text:?} must have no query and no fragment"),
        ));
    }
    Ok(())
}

/// No token has such an audience or subject, and it is hard to see.
fn is_blank_or_padded(text: &str) -> bool {
    text.is_empty() || text.trim() != text || text.chars().any(char::is_control)
}

fn is_service_account_subject(sub: &str) -> bool {
    ServiceAccount::parse(sub)
        .is_some_and(|account| names::is_namespace(account.namespace) && names::is_object_name(account.name))
}
