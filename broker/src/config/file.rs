//! The configuration file as it is written. `docs/configuration.md` explains every field to the person who writes it.

mod audit;
mod limits;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Deserializer};

pub(super) use audit::{Audit, AuditSink, OnBlocked};
pub(super) use limits::{Limits, Rate};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    pub(super) api_version: String,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) clusters: Vec<Cluster>,
    #[serde(default)]
    pub(super) clouds: Vec<Cloud>,
    #[serde(default)]
    pub(super) identities: Vec<Identity>,
    #[serde(default)]
    pub(super) grants: Vec<Grant>,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) egress: Egress,
    #[serde(default)]
    pub(super) audit: Audit,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) jwks: Jwks,
    pub(super) caller_audiences: Vec<String>,
    pub(super) subject_audiences: Vec<String>,
    pub(super) max_token_lifetime_seconds: Option<u64>,
    pub(super) syncers: Vec<String>,
    #[serde(default)]
    pub(super) operators: Vec<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) client_certificates: Option<Vec<String>>,
    pub(super) workloads: Option<Workloads>,
    pub(super) default_tenant: Option<String>,
    #[serde(default)]
    pub(super) grants: GrantModes,
    #[serde(default)]
    pub(super) ceilings: Ceilings,
    #[serde(default)]
    pub(super) limits: Limits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct GrantModes {
    #[serde(default)]
    pub(super) broker_owned: BrokerOwnedGrants,
    #[serde(default)]
    pub(super) federated: FederatedGrants,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum BrokerOwnedGrants {
    #[default]
    Enforce,
    Report,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum FederatedGrants {
    /// YAML 1.1, which Helm still reads, takes one word for the other.
    #[default]
    #[serde(alias = "false")]
    Off,
    Report,
    Enforce,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Jwks {
    pub(super) file: Option<PathBuf>,
    pub(super) inline: Option<String>,
    pub(super) url: Option<String>,
    pub(super) ca_bundle: Option<PathBuf>,
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Workloads {
    pub(super) namespaces: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Ceilings {
    #[serde(default, deserialize_with = "given")]
    pub(super) tenants: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) registries: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Cloud {
    pub(super) name: String,
    pub(super) authority: String,
    #[serde(default)]
    pub(super) registries: Vec<String>,
    #[serde(default)]
    pub(super) registry_suffixes: Vec<String>,
    pub(super) registry_audience: Option<String>,
    pub(super) federation_audience: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Identity {
    pub(super) name: String,
    #[serde(default = "public_cloud")]
    pub(super) cloud: String,
    pub(super) tenant: String,
    pub(super) client_id: Option<String>,
    pub(super) resource_id: Option<String>,
    pub(super) source: IdentitySource,
    pub(super) application: Option<Application>,
}

/// `imds`, or `{projectedToken: {file: PATH}}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum IdentitySource {
    Imds,
    ProjectedToken(ProjectedToken),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProjectedToken {
    pub(super) file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Application {
    pub(super) tenant: String,
    pub(super) client_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Grant {
    pub(super) name: String,
    pub(super) clusters: Vec<String>,
    pub(super) namespaces: Vec<String>,
    pub(super) service_accounts: Vec<String>,
    pub(super) identity: Option<String>,
    pub(super) federated: Option<GrantedClients>,
    pub(super) registries: Vec<String>,
    #[serde(default)]
    pub(super) repositories: Vec<String>,
    #[serde(default = "pull")]
    pub(super) actions: Vec<String>,
    #[serde(default)]
    pub(super) registry_wide: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct GrantedClients {
    #[serde(default = "public_cloud")]
    pub(super) cloud: String,
    pub(super) tenants: Vec<String>,
    pub(super) client_ids: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Egress {
    pub(super) ca_bundle: Option<PathBuf>,
    #[serde(default)]
    pub(super) host_overrides: BTreeMap<String, SocketAddr>,
    pub(super) imds_endpoint: Option<String>,
}

/// A list that is there is one, even where nothing is written for it: only leaving it out is to leave it out.
fn given<'de, D: Deserializer<'de>>(written: D) -> Result<Option<Vec<String>>, D::Error> {
    Vec::deserialize(written).map(Some)
}

fn public_cloud() -> String {
    "PublicCloud".to_owned()
}

fn pull() -> Vec<String> {
    vec!["pull".to_owned()]
}
