//! From the file to [`Config`]: every reference resolved, every id parsed, every contradiction refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use url::Url;

use super::{
    Cloud, Clouds, ClusterConfig, Config, EgressConfig, Grant, HostOverride, Identity, JwksUrl, KeySource,
    Pattern, Policy, clouds::REGISTRY_AUDIENCE, file,
};
use crate::authn::KeySet;

const API_VERSION: &str = "config.acrpull.dev/v1alpha1";
const KIND: &str = "BrokerConfiguration";
/// Where a virtual machine finds its metadata service.
const IMDS_ENDPOINT: &str = "http://169.254.169.254";

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file, or one that it names, cannot be read. Not a matter of content.
    #[error("cannot read {path} ({field})")]
    Read {
        /// Which field named it.
        field: String,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The content is not what it must be.
    #[error("{field}: {problem}")]
    Content {
        /// Path of the field, such as `grants[2].identity`.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// Reads and checks the configuration.
///
/// # Errors
/// The first thing that is wrong, by the path of its field.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = read_text(path, "--config")?;
    let file: file::File = serde_saphyr::from_str(&text)
        .map_err(|error| content("the configuration file", first_line(&error.to_string())))?;
    let directory = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    Loader { directory }.config(file)
}

struct Loader {
    directory: PathBuf,
}

impl Loader {
    fn config(&self, file: file::File) -> Result<Config, ConfigError> {
        let file::File {
            api_version,
            kind,
            clusters,
            clouds,
            identities,
            grants,
            egress,
        } = file;
        if api_version != API_VERSION {
            return Err(content(
                "apiVersion",
                format!("must be {API_VERSION}, got {api_version:?}"),
            ));
        }
        if kind != KIND {
            return Err(content("kind", format!("must be {KIND}, got {kind:?}")));
        }
        unique("clusters", clusters.iter().map(|cluster| &cluster.name))?;
        unique("clouds", clouds.iter().map(|cloud| &cloud.name))?;
        unique("identities", identities.iter().map(|identity| &identity.name))?;
        unique("grants", grants.iter().map(|grant| &grant.name))?;
        let clouds = Clouds::new(indexed("clouds", clouds, cloud)?);
        let clusters = indexed("clusters", clusters, |field, cluster| {
            self.cluster(field, cluster)
        })?;
        if clusters.is_empty() {
            return Err(content(
                "clusters",
                "name at least one: without a cluster nobody can ask for anything",
            ));
        }
        distinct_keys(&clusters)?;
        let identities = indexed("identities", identities, |field, identity| {
            identity_of(field, identity, &clouds)
        })?;
        distinct_identities(&identities)?;
        let grants = indexed("grants", grants, |field, grant| {
            grant_of(field, grant, &identities, &clusters)
        })?;
        let egress = self.egress(egress)?;
        Ok(Config {
            clusters,
            clouds,
            policy: Policy { identities, grants },
            egress,
        })
    }

    fn cluster(&self, field: &str, cluster: file::Cluster) -> Result<ClusterConfig, ConfigError> {
        let file::Cluster {
            name,
            issuer,
            jwks,
            caller_audiences,
            subject_audiences,
            syncers,
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
        if let Some(wrong) = syncers.iter().find(|sub| !is_service_account_subject(sub)) {
            return Err(content(
                format!("{field}.syncers"),
                format!("{wrong:?} must be system:serviceaccount:<namespace>:<name>"),
            ));
        }
        Ok(ClusterConfig {
            keys: self.keys(&format!("{field}.jwks"), jwks)?,
            name: name.into(),
            issuer,
            caller_audiences,
            subject_audiences,
            syncers,
            default_tenant: optional(&format!("{field}.defaultTenant"), default_tenant)?,
            tenant_ceiling: all(&format!("{field}.ceilings.tenants"), &ceilings.tenants)?,
            registry_ceiling: all(&format!("{field}.ceilings.registries"), &ceilings.registries)?,
        })
    }

    fn keys(&self, field: &str, jwks: file::Jwks) -> Result<KeySource, ConfigError> {
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
                let text = read_text(&self.resolve(path), &field)?;
                fixed(&text, field)
            }
            (None, Some(text), None) => fixed(&text, format!("{field}.inline")),
            (None, None, Some(url)) => {
                let source = JwksUrl {
                    url: https(&format!("{field}.url"), &url)?,
                    ca_bundle: ca_bundle.map(|path| self.resolve(path)),
                    token_file: token_file.map(|path| self.resolve(path)),
                };
                for (path, name) in [(&source.ca_bundle, "caBundle"), (&source.token_file, "tokenFile")] {
                    if let Some(path) = path {
                        read_text(path, &format!("{field}.{name}"))?;
                    }
                }
                Ok(KeySource::Url(source))
            }
            _ => Err(content(field, "set exactly one of file, inline and url")),
        }
    }

    fn egress(&self, egress: file::Egress) -> Result<EgressConfig, ConfigError> {
        let file::Egress {
            ca_bundle,
            host_overrides,
            imds_endpoint,
        } = egress;
        let field = "egress.caBundle";
        let ca_bundle_pem = match ca_bundle {
            None => None,
            Some(path) => {
                let path = self.resolve(path);
                let pem = read_text(&path, field)?;
                runtime::tls::load_roots(&path)
                    .map_err(|error| content(field, runtime::error_chain::ErrorChain(&error)))?;
                Some(pem.into_bytes())
            }
        };
        let host_overrides = host_overrides
            .into_iter()
            .map(|(host, address)| {
                let name = host.strip_prefix("*.").unwrap_or(&host);
                if name.is_empty() || name.contains('*') || host != host.to_ascii_lowercase() {
                    return Err(content(
                        format!("egress.hostOverrides[{host:?}]"),
                        "must be a lower-case host name or *.suffix",
                    ));
                }
                Ok(HostOverride {
                    host: Pattern::new(&host),
                    address,
                })
            })
            .collect::<Result<_, _>>()?;
        let imds_endpoint = imds_endpoint.unwrap_or_else(|| IMDS_ENDPOINT.to_owned());
        let imds_endpoint = Url::parse(&imds_endpoint)
            .ok()
            .filter(|url| url.scheme() == "http" && url.has_host())
            .ok_or_else(|| {
                content(
                    "egress.imdsEndpoint",
                    "must be an http URL such as http://169.254.169.254",
                )
            })?;
        Ok(EgressConfig {
            ca_bundle_pem,
            host_overrides,
            imds_endpoint,
        })
    }

    /// Relative paths are relative to the configuration file, so that a ConfigMap can hold both.
    fn resolve(&self, path: PathBuf) -> PathBuf {
        self.directory.join(path)
    }
}

fn cloud(field: &str, cloud: file::Cloud) -> Result<Arc<Cloud>, ConfigError> {
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

fn identity_of(field: &str, identity: file::Identity, clouds: &Clouds) -> Result<Arc<Identity>, ConfigError> {
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

fn grant_of(
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

/// Two clusters with one key could speak for each other.
fn distinct_keys(clusters: &[ClusterConfig]) -> Result<(), ConfigError> {
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

/// A request names an identity by client or resource id: it must mean one.
fn distinct_identities(identities: &[Arc<Identity>]) -> Result<(), ConfigError> {
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

fn is_service_account_subject(sub: &str) -> bool {
    let mut parts = sub.split(':');
    let [system, kind, namespace, name] = [parts.next(), parts.next(), parts.next(), parts.next()];
    (system, kind) == (Some("system"), Some("serviceaccount"))
        && [namespace, name]
            .into_iter()
            .all(|part| part.is_some_and(|part| !part.is_empty()))
        && parts.next().is_none()
}

fn unique<'a>(field: &str, names: impl Iterator<Item = &'a String>) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() {
            return Err(content(field, "every entry needs a name"));
        }
        if !seen.insert(name) {
            return Err(content(field, format!("the name {name:?} is used twice")));
        }
    }
    Ok(())
}

fn indexed<A, B>(
    field: &str,
    entries: Vec<A>,
    mut convert: impl FnMut(&str, A) -> Result<B, ConfigError>,
) -> Result<Vec<B>, ConfigError> {
    entries
        .into_iter()
        .enumerate()
        .map(|(index, entry)| convert(&format!("{field}[{index}]"), entry))
        .collect()
}

fn one<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, ConfigError> {
    text.parse()
        .map_err(|error: T::Err| content(field, format!("{text:?} {error}")))
}

fn optional<T: FromStr<Err: Display>>(field: &str, text: Option<String>) -> Result<Option<T>, ConfigError> {
    text.map(|text| one(field, &text)).transpose()
}

fn all<T: FromStr<Err: Display>>(field: &str, texts: &[String]) -> Result<Vec<T>, ConfigError> {
    texts.iter().map(|text| one(field, text)).collect()
}

fn https(field: &str, text: &str) -> Result<Url, ConfigError> {
    Url::parse(text)
        .ok()
        .filter(|url| {
            url.scheme() == "https" && url.has_host() && url.username().is_empty() && url.password().is_none()
        })
        .ok_or_else(|| content(field, format!("{text:?} must be an https URL")))
}

fn content(field: impl Into<String>, problem: impl Display) -> ConfigError {
    ConfigError::Content {
        field: field.into(),
        problem: problem.to_string(),
    }
}

fn read_text(path: &Path, field: &str) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        field: field.to_owned(),
        path: path.display().to_string(),
        source,
    })
}

/// The YAML library draws the place in the file below its first line; one line is what fits an error.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

#[cfg(test)]
mod tests;
