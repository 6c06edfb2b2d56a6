//! `broker check-config`: what a configuration would make the broker do, or the first thing that is wrong with it.
//! Starts nothing, and asks nobody.

use std::fmt::{self, Display, Write as _};

use proto::types::RegistryHost;
use runtime::Failure;

use crate::{
    args::ConfigArgs,
    config::{
        self, AuditConfig, AuditSink, ClusterConfig, Config, ConfigError, EgressConfig, Grant, Identity,
        KeySource, OnBlocked,
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
            audit,
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
            let (suffixes, audience) = (cloud.registry_suffixes.join(", "), &cloud.registry_audience);
            let warning = if cloud.asks_for_registries_only() {
                ""
            } else {
                ", and with it for whatever else takes such tokens"
            };
            writeln!(
                f,
                "cloud {name}: {authority} for {suffixes}; asks for {audience}{warning}"
            )?;
        }
        policy
            .identities
            .iter()
            .try_for_each(|identity| write_identity(f, identity))?;
        policy.grants.iter().try_for_each(|grant| write_grant(f, grant))?;
        write_egress(f, egress)?;
        write_audit(f, audit)
    }
}

fn write_cluster(f: &mut fmt::Formatter<'_>, cluster: &ClusterConfig) -> fmt::Result {
    let keys = match &cluster.keys {
        KeySource::Fixed(keys) => format!("{} given", keys.thumbprints().count()),
        KeySource::Url(source) => format!("from {}", source.url),
    };
    let (name, issuer) = (&cluster.name, &cluster.issuer);
    let (syncers, operators) = (cluster.syncers.len(), cluster.operators.len());
    write!(
        f,
        "cluster {name}: issuer {issuer}; keys {keys}; syncers: {syncers}, operators: {operators}"
    )?;
    if !cluster.workloads.namespaces().is_empty() {
        let namespaces = cluster.workloads.namespaces();
        write!(
            f,
            "; workloads of namespaces {namespaces:?} may ask for themselves"
        )?;
    }
    writeln!(f)
}

fn write_identity(f: &mut fmt::Formatter<'_>, identity: &Identity) -> fmt::Result {
    let mut ids = Vec::new();
    ids.extend(identity.client_id.as_ref().map(ToString::to_string));
    ids.extend(identity.resource_id.as_ref().map(ToString::to_string));
    let (name, cloud, tenant) = (&identity.name, &identity.cloud.name, &identity.tenant);
    writeln!(
        f,
        "identity {name}: {} of tenant {tenant} in {cloud}; {}",
        ids.join(" or "),
        identity.way()
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
    writeln!(
        f,
        "grant {}: {} at {}, as {}, for ServiceAccounts {:?} of namespaces {:?} of {}",
        grant.name,
        scopes,
        registries.join(", "),
        grant.identity,
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

fn write_audit(f: &mut fmt::Formatter<'_>, audit: &AuditConfig) -> fmt::Result {
    let AuditConfig {
        sink,
        on_blocked,
        key,
        strangers_per_second,
    } = audit;
    let sink = match sink {
        AuditSink::Off => return writeln!(f, "audit: off"),
        AuditSink::Stdout => "standard output".to_owned(),
        AuditSink::File(path) => path.display().to_string(),
    };
    let on_blocked = match on_blocked {
        OnBlocked::Continue => "answered",
        OnBlocked::Refuse => "refused",
    };
    let key = match key {
        Some(key) => format!("key {}", key.id()),
        None => "a key that ends with the process".to_owned(),
    };
    writeln!(
        f,
        "audit to {sink}: fingerprints by {key}; calls are {on_blocked} while it is blocked; strangers: \
         {strangers_per_second} per second"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file with these clouds and identities comes to, line by line.
    fn summary(sections: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let jwks = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
        let text = format!(
            "apiVersion: config.acrpull.dev/v1alpha1\nkind: BrokerConfiguration\nclusters:\n- name: weu-7\n  issuer: https://issuer.example\n  jwks: {{inline: '{jwks}'}}\n  callerAudiences: [acrpull-broker]\n  subjectAudiences: [api://AzureCRTokenExchange]\n  syncers: [system:serviceaccount:s:s]\n{sections}"
        );
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        let config = config::load(&path).config.unwrap();
        Summary(&config).to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn check_config_shows_where_tokens_come_from_and_what_they_are_for() {
        let lines = summary(
            "clouds:
- {name: stack, authority: https://login.stack.example, registrySuffixes: [azurecr.stack.example], registryAudience: https://management.stack.example/}
identities:
- {name: web, tenant: contoso.example, clientId: 33333333-3333-3333-3333-000000000001, source: imds,
   application: {tenant: fabrikam.example, clientId: 33333333-3333-3333-3333-000000000009}}
- {name: jobs, tenant: contoso.example, clientId: 33333333-3333-3333-3333-000000000002, source: {projectedToken: {file: /run/token}}}
",
        );
        for expected in [
            "cloud stack: https://login.stack.example/ for azurecr.stack.example; asks for https://management.stack.example/, \
             and with it for whatever else takes such tokens",
            "cloud PublicCloud: https://login.microsoftonline.com/ for azurecr.io; asks for https://containerregistry.azure.net",
            "identity web: 33333333-3333-3333-3333-000000000001 of tenant contoso.example in PublicCloud; from the metadata \
             service, then as application 33333333-3333-3333-3333-000000000009 of tenant fabrikam.example with a token for \
             api://AzureADTokenExchange",
            "identity jobs: 33333333-3333-3333-3333-000000000002 of tenant contoso.example in PublicCloud; from the broker's \
             own token in /run/token",
        ] {
            assert!(
                lines.iter().any(|line| line == expected),
                "{expected}\n{lines:#?}"
            );
        }
    }
}
