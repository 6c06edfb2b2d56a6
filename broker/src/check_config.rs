//! `broker check-config`: what a configuration would make the broker do, or the first thing that is wrong with it.
//! Starts nothing, and asks nobody.

use std::fmt::{self, Display, Write as _};

use proto::types::RegistryHost;
use runtime::Failure;

use crate::{
    args::ConfigArgs,
    config::{
        self, ClusterConfig, Config, ConfigError, EgressConfig, Grant, GrantMode, GrantedIdentity, Identity,
        KeySource,
    },
};

/// Checks a configuration and prints what it found.
///
/// # Errors
/// The file cannot be read (exit code 1); its content is wrong, or a file that it names cannot be read (64).
#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub fn check_config(args: &ConfigArgs) -> Result<(), Failure> {
    let path = &args.config;
    let config = config::load(path).config.map_err(|error| match &error {
        ConfigError::Read { field, .. } if field != config::FILE_FIELD => {
            Failure::usage(format!("configuration {}", path.display()))
                .remedy("correct the path, or put the file there")
                .source(error)
        }
        ConfigError::Read { .. } | ConfigError::Syntax(_) | ConfigError::Content { .. } => {
            crate::failure(path, error)
        }
    })?;
    print!("{}: ok; {}", path.display(), Summary(&config));
    Ok(())
}

/// One line with the numbers, then one for each thing by its name.
struct Summary<'a>(&'a Config);

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config {
            clusters,
            clouds,
            policy,
            egress,
        } = self.0;
        writeln!(
            f,
            "clusters: {}, broker-owned identities: {}, grants: {}",
            clusters.len(),
            policy.identities.len(),
            policy.grants.len()
        )?;
        clusters
            .iter()
            .try_for_each(|cluster| write_cluster(f, cluster))?;
        for cloud in clouds.iter() {
            let (name, authority) = (&cloud.name, &cloud.authority);
            writeln!(
                f,
                "cloud {name}: {authority} for {}",
                cloud.registry_suffixes.join(", ")
            )?;
        }
        policy
            .identities
            .iter()
            .try_for_each(|identity| write_identity(f, identity))?;
        policy.grants.iter().try_for_each(|grant| write_grant(f, grant))?;
        write_egress(f, egress)
    }
}

fn write_cluster(f: &mut fmt::Formatter<'_>, cluster: &ClusterConfig) -> fmt::Result {
    let keys = match &cluster.keys {
        KeySource::Fixed(keys) => format!("{} given", keys.thumbprints().count()),
        KeySource::Url(source) => format!("from {}", source.url),
    };
    let (name, issuer) = (&cluster.name, &cluster.issuer);
    let (syncers, operators) = (cluster.syncers.len(), cluster.operators.len());
    let modes = cluster.grant_modes;
    let (owned, federated) = (
        modes.broker_owned.as_str(),
        modes.federated.map_or("off", GrantMode::as_str),
    );
    writeln!(
        f,
        "cluster {name}: issuer {issuer}; keys {keys}; syncers: {syncers}, operators: {operators}; \
         grants: {owned} for broker-owned identities, {federated} for federated ones"
    )
}

fn write_identity(f: &mut fmt::Formatter<'_>, identity: &Identity) -> fmt::Result {
    let mut ids = Vec::new();
    ids.extend(identity.client_id.as_ref().map(ToString::to_string));
    ids.extend(identity.resource_id.as_ref().map(ToString::to_string));
    let (name, cloud, tenant) = (&identity.name, &identity.cloud.name, &identity.tenant);
    writeln!(
        f,
        "identity {name}: {} of tenant {tenant} in {cloud}",
        ids.join(" or ")
    )
}

fn write_grant(f: &mut fmt::Formatter<'_>, grant: &Grant) -> fmt::Result {
    let mut scopes = String::new();
    if !grant.repositories.is_empty() {
        write!(scopes, "{:?} of {:?}", grant.actions, grant.repositories)?;
    }
    if grant.registry_wide {
        scopes.push_str(if scopes.is_empty() {
            "everything"
        } else {
            " and everything"
        });
    }
    let registries: Vec<&str> = grant.registries.iter().map(RegistryHost::as_str).collect();
    let identity = match &grant.identity {
        GrantedIdentity::BrokerOwned(name) => name.to_string(),
        GrantedIdentity::Federated(clients) => {
            format!(
                "federated {:?} of {:?} in {}",
                clients.clients, clients.tenants, clients.cloud
            )
        }
    };
    writeln!(
        f,
        "grant {}: {} at {}, as {}, for ServiceAccounts {:?} of namespaces {:?} of {}",
        grant.name,
        scopes,
        registries.join(", "),
        identity,
        grant.service_accounts,
        grant.namespaces,
        grant.clusters.join(", ")
    )
}

fn write_egress(f: &mut fmt::Formatter<'_>, egress: &EgressConfig) -> fmt::Result {
    for rule in &egress.host_overrides {
        writeln!(f, "egress to {:?}: {}", rule.host, rule.address)?;
    }
    if egress.ca_bundle_pem.is_some() {
        writeln!(f, "egress trusts a CA bundle beside the system's")?;
    }
    writeln!(f, "egress to the metadata service: {}", egress.imds_endpoint)
}
