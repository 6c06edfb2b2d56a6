//! What is in the way, or should be known before: each with its object, one sentence, and what to do. Pure.
//!
//! Files by what they are about: `bindings` one by one, bindings `together`, `secrets` (and links), `cluster`.

mod bindings;
mod cluster;
mod secrets;
mod together;

use serde::Serialize;

use super::{assess::Assessed, object::Object, world::World};
use crate::args::PreflightArgs;

/// Something to know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) code: Code,
    pub(super) object: Object,
    pub(super) message: String,
    pub(super) remedy: String,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Severity {
    /// Pulls would break, or not begin to work.
    Blocker,
    /// Something has to be done or decided, or could not be looked at.
    Attention,
    /// Nothing has to be done.
    Info,
}

/// What kind of finding it is; for programs, and never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Code {
    /// The binding does not decode.
    Undecodable,
    /// The syncer refuses the spec.
    SpecRefused,
    /// The ServiceAccount of the identity is missing.
    IdentityAccountMissing,
    /// The ServiceAccount names no identity.
    IdentityAnnotationMissing,
    /// `serviceAccountRef` and `serviceAccountName` differ.
    AccountRefDiffers,
    /// The registry is outside `--allowed-acr-server-suffixes`.
    RegistryNotAllowed,
    /// The cloud of the registry has to be declared at the broker.
    CloudNotDeclared,
    /// No grant can allow a scope like that.
    ScopeNotGrantable,
    /// A scope asks for more than pull, which the chart's policy refuses.
    ScopeMoreThanPull,
    /// A deleted binding does not go.
    DeletionHangs,
    /// The ServiceAccount to link is missing.
    TargetAccountMissing,
    /// Bindings of both APIs have one name.
    SameNameInBothApis,
    /// The identity has to be the broker's.
    BrokerOwnedIdentity,
    /// A token for all of a registry is asked for.
    RegistryWide,
    /// The peer's finalizer is on bindings.
    PeerFinalizer,
    /// A Secret of our name belongs to somebody else.
    ForeignSecret,
    /// A Secret lacks its label or its owner.
    SecretUnmarked,
    /// A Secret has no binding.
    SecretWithoutBinding,
    /// A link has no binding.
    LinkWithoutBinding,
    /// A CRD is not installed.
    CrdMissing,
    /// A CRD is older than ours.
    CrdOlder,
    /// A CRD is being deleted.
    CrdLeaving,
    /// The peer runs.
    PeerRunning,
    /// The peer's policies are there.
    PeerPolicies,
    /// The server has no validating admission policies.
    NoAdmissionPolicies,
    /// The user may not look at something.
    NotLookedAt,
}

impl Finding {
    fn new(
        severity: Severity,
        code: Code,
        object: Object,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code,
            object,
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

/// All findings, the worst first, then by kind and object.
pub(super) fn all(world: &World, assessed: &[Assessed], args: &PreflightArgs) -> Vec<Finding> {
    let mut findings: Vec<Finding> = assessed
        .iter()
        .flat_map(|assessed| bindings::of(assessed, args))
        .collect();
    findings.extend(bindings::unreadable(world));
    findings.extend(together::all(world, assessed));
    findings.extend(assessed.iter().filter_map(secrets::of));
    findings.extend(secrets::left_behind(world));
    findings.extend(cluster::all(world));
    findings.sort();
    findings
}

#[cfg(test)]
mod tests;
