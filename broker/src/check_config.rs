//! `broker check-config`: what a configuration would make the broker do, or the first thing that is wrong with it.
//! Starts nothing, and asks nobody.

use std::fmt::{self, Display, Write as _};

use proto::types::RegistryHost;
use runtime::Failure;

use crate::{
    args::ConfigArgs,
    config::{
        self, AuditConfig, AuditSink, ClusterConfig, Config, ConfigError, EgressConfig, Grant, GrantMode,
        GrantedIdentity, Identity, KeySource, Limits, OnBlocked, Rate,
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

/// One line with the numbers, then one for each thing by its name, and last what may be a mistake.
struct Summary<'a>(&'a Config);

/// A rate in words.
struct Requests<'a>(&'a Rate);

impl Display for Requests<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rate {
            requests_per_second,
            burst,
        } = self.0;
        write!(f, "{requests_per_second} requests per second, {burst} at once")
    }
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config {
            clusters,
            clouds,
            policy,
            egress,
            audit,
            warnings,
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
            let (registries, audience) = (&cloud.registries, &cloud.registry_audience);
            let warning = if cloud.asks_for_registries_only() {
                ""
            } else {
                ", and with it for whatever else takes such tokens"
            };
            writeln!(
                f,
                "cloud {name}: {authority} for {registries}; asks for {audience}{warning}"
            )?;
        }
        policy
            .identities
            .iter()
            .try_for_each(|identity| write_identity(f, identity))?;
        policy.grants.iter().try_for_each(|grant| write_grant(f, grant))?;
        write_egress(f, egress)?;
        write_audit(f, audit)?;
        warnings
            .iter()
            .try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

fn write_cluster(f: &mut fmt::Formatter<'_>, cluster: &ClusterConfig) -> fmt::Result {
    let keys = match &cluster.keys {
        KeySource::Fixed(keys) => format!("{} given", keys.thumbprints().count()),
        KeySource::Url(source) => format!("from {}", source.url),
    };
    let (name, issuer) = (&cluster.name, &cluster.issuer);
    let (syncers, operators) = (cluster.syncers.len(), cluster.operators.len());
    let lifetime = cluster.max_token_lifetime.as_secs();
    let modes = cluster.grant_modes;
    let (owned, federated) = (
        modes.broker_owned.as_str(),
        modes.federated.map_or("off", GrantMode::as_str),
    );
    write!(
        f,
        "cluster {name}: issuer {issuer}; keys {keys}; tokens of at most {lifetime} s; syncers: {syncers}, \
         operators: {operators}; grants: {owned} for broker-owned identities, {federated} for federated ones"
    )?;
    for (index, certificate) in cluster.client_certificates.iter().enumerate() {
        let before = if index == 0 { "; client certificates:" } else { "," };
        write!(f, "{before} {certificate}")?;
    }
    writeln!(f)?;
    if !cluster.workloads.namespaces().is_empty() {
        let namespaces = cluster.workloads.namespaces();
        writeln!(
            f,
            "cluster {name}: workloads of namespaces {namespaces:?} may ask for themselves"
        )?;
    }
    let Limits {
        per_cluster,
        per_namespace,
    } = &cluster.limits;
    writeln!(
        f,
        "cluster {name}: at most {}; each namespace {}",
        Requests(per_cluster),
        Requests(per_namespace)
    )
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

    const KEY: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

    /// What a file with these clouds and identities comes to, line by line.
    fn summary(sections: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "apiVersion: config.acrpull.dev/v1alpha1\nkind: BrokerConfiguration\nclusters:\n- name: weu-7\n  issuer: https://issuer.example\n  jwks: {{inline: '{KEY}'}}\n  callerAudiences: [acrpull-broker]\n  subjectAudiences: [api://AzureCRTokenExchange]\n  syncers: [system:serviceaccount:s:s]\n{sections}"
        );
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        let config = config::load(&path).config.unwrap();
        Summary(&config).to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn check_config_summary_has_a_line_for_each_thing() {
        let more_of_the_first = "  operators: [system:serviceaccount:s:o]
  clientCertificates: [weu-7.example, spiffe://fleet/weu-7]
  workloads: {namespaces: [web, team-*]}
  maxTokenLifetimeSeconds: 600
  limits: {perNamespace: {requestsPerSecond: 5, burst: 6}}
";
        let lines = summary(&format!(
            "{more_of_the_first}- name: neu-1
  issuer: https://neu-1.example
  jwks: {{url: 'https://neu-1.example/keys'}}
  callerAudiences: [acrpull-broker]
  subjectAudiences: [api://AzureCRTokenExchange]
  syncers: [system:serviceaccount:s:s]
  grants: {{brokerOwned: report, federated: enforce}}
  limits: {{perCluster: {{requestsPerSecond: 7, burst: 8}}}}
identities:
- {{name: web, tenant: contoso.example, clientId: 33333333-3333-3333-3333-000000000001, source: imds}}
grants:
- {{name: web, clusters: [weu-7, gone-1], namespaces: [web], serviceAccounts: [app], identity: web, registries: [prod.azurecr.io], repositories: [team/*]}}
limits: {{perCluster: {{requestsPerSecond: 1, burst: 2}}, perNamespace: {{requestsPerSecond: 3, burst: 4}}}}
audit: {{sink: off}}
"
        ));
        let expected = [
            "clusters: 2, broker-owned identities: 1, grants: 1",
            "cluster weu-7: issuer https://issuer.example; keys 1 given; tokens of at most 600 s; syncers: 1, operators: 1; grants: enforce for \
             broker-owned identities, off for federated ones; client certificates: weu-7.example, spiffe://fleet/weu-7",
            "cluster weu-7: workloads of namespaces [web, team-*] may ask for themselves",
            "cluster weu-7: at most 1 requests per second, 2 at once; each namespace 5 requests per second, 6 at once",
            "cluster neu-1: issuer https://neu-1.example; keys from https://neu-1.example/keys; tokens of at most 3660 s; syncers: 1, operators: 0; \
             grants: report for broker-owned identities, enforce for federated ones",
            "cluster neu-1: at most 7 requests per second, 8 at once; each namespace 3 requests per second, 4 at once",
            "cloud PublicCloud: https://login.microsoftonline.com/ for *.azurecr.io; asks for https://containerregistry.azure.net",
            "cloud USGovernmentCloud: https://login.microsoftonline.us/ for *.azurecr.us; asks for https://containerregistry.azure.net",
            "cloud ChinaCloud: https://login.chinacloudapi.cn/ for *.azurecr.cn; asks for https://containerregistry.azure.net",
            "identity web: 33333333-3333-3333-3333-000000000001 of tenant contoso.example in PublicCloud; from the metadata service",
            "grant web: [\"pull\"] of [team/*] at prod.azurecr.io, as web, for ServiceAccounts [app] of namespaces [web] of weu-7, gone-1",
            "egress to the metadata service: http://169.254.169.254/",
            "audit: off",
            "warning: grants[0].clusters: \"gone-1\" is not a cluster of this file",
        ];
        assert_eq!(lines, expected);
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
            "cloud stack: https://login.stack.example/ for *.azurecr.stack.example; asks for https://management.stack.example/, \
             and with it for whatever else takes such tokens",
            "cloud PublicCloud: https://login.microsoftonline.com/ for *.azurecr.io; asks for https://containerregistry.azure.net",
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
