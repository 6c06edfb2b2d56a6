//! From the file to [`Config`]: every reference resolved, every id parsed, every contradiction refused.

mod audit;
mod client_certificates;
mod clouds;
mod clusters;
mod field;
mod grants;
mod identities;
mod limits;
mod token_lifetime;
mod workloads;

use std::{
    io,
    path::{Path, PathBuf},
};

use runtime::{error_chain::ErrorChain, file_watch::ReadFiles, tls};
use url::Url;
use zeroize::Zeroizing;

use super::{Clouds, Config, EgressConfig, HostOverride, Limits, Pattern, Policy, file};
pub use field::ConfigError;
use field::{content, indexed, unique};
pub use token_lifetime::DEFAULT_TOKEN_LIFETIME;

const API_VERSION: &str = "config.acrpull.dev/v1alpha1";
const KIND: &str = "BrokerConfiguration";
/// What stands for the file itself where an error names a field.
pub const FILE_FIELD: &str = "--config";
/// Where a virtual machine finds its metadata service.
const IMDS_ENDPOINT: &str = "http://169.254.169.254";

/// What came of reading a configuration.
pub struct Loaded {
    /// The configuration, or the first thing that is wrong, by the path of its field.
    pub config: Result<Config, ConfigError>,
    /// Every file whose content had a part in it, the file itself first, as it was: when one of them changes, so may the rest.
    pub files: ReadFiles,
}

/// Reads and checks the configuration. Blocks.
pub fn load(path: &Path) -> Loaded {
    let mut folder = Folder {
        path: path.parent().map_or_else(PathBuf::new, Path::to_path_buf),
        files: ReadFiles::default(),
    };
    let config = folder
        .read_text(path, FILE_FIELD)
        .and_then(|text| parse(&text))
        .and_then(|file| config(&mut folder, file));
    Loaded {
        config,
        files: folder.files,
    }
}

/// Where the configuration file is, and what was read. Relative paths in it are relative to its own folder, so that a
/// ConfigMap can hold both.
struct Folder {
    path: PathBuf,
    files: ReadFiles,
}

impl Folder {
    fn resolve(&self, path: PathBuf) -> PathBuf {
        self.path.join(path)
    }

    fn read(&mut self, path: &Path, field: &str) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
        self.files
            .read(path)
            .map_err(|source| unreadable(path, field, source))
    }

    /// Checks a text that is read again for each use, such as a token that is renewed all the time: that it is another one
    /// changes nothing here. Only one that cannot be read has a part in the outcome.
    fn check_text(&mut self, path: &Path, field: &str) -> Result<(), ConfigError> {
        let is_text = ReadFiles::default()
            .read(path)
            .is_ok_and(|content| std::str::from_utf8(&content).is_ok());
        if is_text {
            return Ok(());
        }
        self.read_text(path, field).map(drop)
    }

    fn read_text(&mut self, path: &Path, field: &str) -> Result<String, ConfigError> {
        let content = self.read(path, field)?;
        String::from_utf8(content.to_vec()).map_err(|error| {
            let source = io::Error::new(io::ErrorKind::InvalidData, error.utf8_error());
            unreadable(path, field, source)
        })
    }
}

fn unreadable(path: &Path, field: &str, source: io::Error) -> ConfigError {
    ConfigError::Read {
        field: field.to_owned(),
        path: path.display().to_string(),
        source,
    }
}

fn parse(text: &str) -> Result<file::File, ConfigError> {
    serde_saphyr::from_str(text)
        .map_err(|error| ConfigError::Syntax(first_line(&error.to_string()).to_owned()))
}

fn config(folder: &mut Folder, file: file::File) -> Result<Config, ConfigError> {
    let file::File {
        api_version,
        kind,
        clusters,
        clouds,
        identities,
        grants,
        limits,
        egress,
        audit,
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
    let clouds = Clouds::new(indexed("clouds", clouds, clouds::cloud)?);
    let limits = limits::limits("limits", limits, &Limits::default())?;
    let clusters = indexed("clusters", clusters, |field, cluster| {
        clusters::cluster(folder, field, cluster, &limits)
    })?;
    if clusters.is_empty() {
        return Err(content(
            "clusters",
            "name at least one: without a cluster nobody can ask for anything",
        ));
    }
    clusters::distinct_keys(&clusters)?;
    client_certificates::distinct(&clusters)?;
    let identities = indexed("identities", identities, |field, identity| {
        identities::identity(folder, field, identity, &clouds)
    })?;
    identities::distinct(&identities)?;
    let mut warnings = Vec::new();
    let grants = indexed("grants", grants, |field, grant| {
        warnings.extend(grants::unknown_clusters(field, &grant, &clusters));
        grants::grant(field, grant, &identities, &clouds)
    })?;
    let egress = egress_of(folder, egress)?;
    let audit = audit::audit(folder, audit)?;
    Ok(Config {
        clusters,
        clouds,
        policy: Policy { identities, grants },
        egress,
        audit,
        warnings,
    })
}

fn egress_of(folder: &mut Folder, egress: file::Egress) -> Result<EgressConfig, ConfigError> {
    let file::Egress {
        ca_bundle,
        host_overrides,
        imds_endpoint,
    } = egress;
    let field = "egress.caBundle";
    let ca_bundle_pem = match ca_bundle {
        None => None,
        Some(path) => {
            let path = folder.resolve(path);
            let pem = folder.read_text(&path, field)?;
            tls::load_roots(&path).map_err(|error| content(field, ErrorChain(&error)))?;
            Some(pem.into_bytes())
        }
    };
    // The most specific rule wins: names before suffixes, longer suffixes before shorter ones.
    let mut host_overrides: Vec<_> = host_overrides.into_iter().collect();
    host_overrides.sort_by_key(|(host, _address)| (host.starts_with('*'), std::cmp::Reverse(host.len())));
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
        .filter(|url| {
            url.scheme() == "http"
                && url.has_host()
                && url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        })
        .ok_or_else(|| {
            content(
                "egress.imdsEndpoint",
                "must be an http URL such as http://169.254.169.254, of scheme, host and port alone",
            )
        })?;
    Ok(EgressConfig {
        ca_bundle_pem,
        host_overrides,
        imds_endpoint,
    })
}

/// The YAML library draws the place in the file below its first line; one line is what fits an error.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or(text);
    line.strip_prefix("error: ").unwrap_or(line)
}

#[cfg(test)]
mod tests;
