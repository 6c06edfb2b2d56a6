//! All that preflight has to say, as one value in a stable order: for programs as JSON or YAML, for people as
//! text. Pure.

mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
};

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::{
    assess::{Assessed, assess},
    changes::{self, Change},
    findings::{self, Finding, Severity},
    grants::{self, Sections},
    world::World,
};
use crate::{
    args::{OutputFormat, PreflightArgs},
    binding::ApiVersion,
    wanted::Identity,
};

/// The report.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    summary: Summary,
    findings: Vec<Finding>,
    changes: Vec<Change>,
    federations: Vec<Federation>,
    grants: Sections,
}

/// How much there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    /// Bindings of each API, those included that do not decode.
    bindings: BTreeMap<&'static str, usize>,
    namespaces: usize,
    /// Each with its bindings.
    registries: BTreeMap<String, usize>,
    /// Each with its bindings.
    identities: BTreeMap<String, usize>,
}

/// Whom an identity of Entra ID has to trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Federation {
    client_id: String,
    /// Absent: the default of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Absent: this user may not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    audience: String,
    subjects: BTreeSet<String>,
}

impl Report {
    /// Judges the world.
    pub(super) fn of(world: &World, args: &PreflightArgs, now: Timestamp) -> Self {
        let assessed = assess(world, args, now);
        Self {
            summary: Summary::of(world, &assessed),
            findings: findings::all(world, &assessed, args),
            changes: changes::all(&assessed),
            federations: federations(world, &assessed, args),
            grants: grants::all(&assessed, args),
        }
    }

    /// Whether something is in the way.
    pub(super) fn is_blocked(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity == Severity::Blocker)
    }

    /// As it is printed.
    ///
    /// # Errors
    /// It is not expressible in that form; a unit test rules it out.
    pub(super) fn shown(&self, args: &PreflightArgs) -> Result<String, Box<dyn Error + Send + Sync>> {
        if args.grants_only {
            return Ok(self.grants.yaml()?);
        }
        Ok(match args.output {
            OutputFormat::Text => text::of(self, args.verbose)?,
            OutputFormat::Json => serde_json::to_string_pretty(self)? + "\n",
            OutputFormat::Yaml => grants::on_one_line_each(self)?,
        })
    }
}

impl Summary {
    fn of(world: &World, assessed: &[Assessed]) -> Self {
        let mut summary = Self {
            bindings: ApiVersion::ALL.map(|api| (api.as_str(), 0)).into(),
            namespaces: 0,
            registries: BTreeMap::new(),
            identities: BTreeMap::new(),
        };
        let mut namespaces = BTreeSet::new();
        for (api, name) in world.all_bindings() {
            *summary.bindings.entry(api.as_str()).or_default() += 1;
            namespaces.insert(name.namespace);
        }
        summary.namespaces = namespaces.len();
        for wanted in assessed
            .iter()
            .filter_map(|assessed| assessed.wanted.as_ref().ok())
        {
            let identity = match &wanted.identity {
                Identity::ClientId(id) => format!("{id} (broker's)"),
                Identity::ResourceId(id) => format!("{id} (broker's)"),
                Identity::Federated { client_id, .. } => format!("{client_id} (federated)"),
            };
            *summary.registries.entry(wanted.registry.to_string()).or_default() += 1;
            *summary.identities.entry(identity).or_default() += 1;
        }
        summary
    }
}

fn federations(world: &World, assessed: &[Assessed], args: &PreflightArgs) -> Vec<Federation> {
    let mut trusted: BTreeMap<(String, Option<String>), BTreeSet<String>> = BTreeMap::new();
    for assessed in assessed.iter().filter(|assessed| !assessed.is_leaving()) {
        let Ok(Identity::Federated {
            service_account,
            client_id,
            tenant_id,
        }) = assessed.wanted.as_ref().map(|wanted| &wanted.identity)
        else {
            continue;
        };
        let subject = format!(
            "system:serviceaccount:{}:{service_account}",
            assessed.name().namespace
        );
        let tenant = tenant_id
            .as_ref()
            .or(args.tenant.as_ref())
            .map(ToString::to_string);
        let subjects = trusted.entry((client_id.to_string(), tenant)).or_default();
        subjects.insert(subject);
    }
    trusted
        .into_iter()
        .map(|((client_id, tenant), subjects)| Federation {
            client_id,
            tenant,
            issuer: world.issuer.clone(),
            audience: args.service_account_token_audience.clone(),
            subjects,
        })
        .collect()
}

#[cfg(test)]
mod tests;
