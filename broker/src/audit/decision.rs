//! The record of one call: its fields, their names and their order. `docs/audit.md` is for who reads them.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use proto::{
    Reason,
    catalogue::RetryClass,
    types::{RegistryHost, TenantId},
};
use serde::Serialize;

use super::{
    event::FORM,
    facts::{Explained, Facts, Handed, Permission},
    foreign::{self, Scopes},
    text::{Text, Time, to_line},
};
use crate::{
    access::{Call, Role},
    authn::Caller,
    channel::Peer,
    credentials::Invalidation,
    metrics::{Outcome, WireFormat},
    request::{DockerConfigRequest, IdentitySelector, RequestedIdentity},
};

/// The call itself, and when it ended.
pub(super) struct Ended<'a> {
    pub(super) id: String,
    pub(super) wire: WireFormat,
    pub(super) call: Call,
    pub(super) outcome: Outcome,
    pub(super) at: SystemTime,
    pub(super) took: Duration,
    /// Fingerprint of the caller's token, if that has no id of its own.
    pub(super) caller_token: Option<String>,
    pub(super) fingerprint_key: &'a str,
}

#[derive(Serialize)]
struct Record<'a> {
    audit: &'static str,
    event: &'static str,
    time: Time,
    call: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    wire: &'static str,
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<CallerPart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestPart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invalidate: Option<InvalidatePart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<ExplainPart<'a>>,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<&'a str>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    azure_request_id: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<CredentialPart<'a>>,
    fingerprint_key: &'a str,
    duration_us: u64,
}

#[derive(Serialize)]
struct CallerPart<'a> {
    cluster: &'a str,
    subject: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<Text<'a>>,
    key_thumbprint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_fingerprint: Option<&'a str>,
}

#[derive(Serialize)]
struct RequestPart<'a> {
    namespace: &'a str,
    binding: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    binding_uid: &'a str,
    service_accounts: &'a [String],
    identity: IdentityPart<'a>,
    registry: &'a str,
    scopes: Scopes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority_host: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    force: bool,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum IdentityPart<'a> {
    Federated {
        #[serde(skip_serializing_if = "Option::is_none")]
        tenant: Option<&'a str>,
        client_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<&'a str>,
    },
    BrokerOwned {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        resource_id: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct InvalidatePart<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<&'a str>,
    dropped: u64,
}

#[derive(Serialize)]
struct ExplainPart<'a> {
    cluster: &'a str,
    verdict: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

#[derive(Serialize)]
struct CredentialPart<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token_fingerprint: Option<&'a str>,
    payload_fingerprint: String,
    expires: Time,
    scopes: Scopes<'a>,
    #[serde(skip_serializing_if = "is_false")]
    degraded: bool,
}

/// The line.
pub(super) fn line(ended: &Ended<'_>, facts: &Facts) -> Vec<u8> {
    let error = facts.error.as_ref();
    let reason = match ended.outcome {
        Outcome::Failed(reason) => Some(reason),
        Outcome::Issued | Outcome::NotModified | Outcome::Answered | Outcome::Cancelled => None,
    };
    let certificate = facts.peer.as_deref().map(Peer::shown);
    let (decision, outcome) = verdict(ended.outcome, facts.permission.is_some());
    to_line(&Record {
        audit: FORM,
        event: "decision",
        time: Time(ended.at),
        call: &ended.id,
        trace_id: facts.trace_id.as_deref(),
        wire: match ended.wire {
            WireFormat::Grpc => "grpc",
            WireFormat::Http => "http",
        },
        method: ended.call.as_str(),
        peer: facts.address,
        client_certificate: certificate.as_deref().map(Text),
        caller: facts.caller.as_ref().map(|caller| who(caller, facts, ended)),
        request: facts.request.as_ref().map(|request| what(request, facts)),
        invalidate: facts
            .dropped
            .as_ref()
            .map(|(selection, entries)| dropped(selection, *entries)),
        explain: facts.explained.as_ref().map(explained),
        decision,
        policy: facts.permission.as_ref().map(Permission::as_str),
        grant: facts.permission.as_ref().and_then(Permission::grant),
        outcome,
        reason: reason.map(Reason::as_wire),
        detail: error.map(|error| Text(&error.message)),
        azure_request_id: error
            .and_then(|error| error.azure_request_id.as_deref())
            .map(Text),
        credential: facts.credential.as_ref().filter(|_| reason.is_none()).map(handed),
        fingerprint_key: ended.fingerprint_key,
        duration_us: u64::try_from(ended.took.as_micros()).unwrap_or(u64::MAX),
    })
}

/// Whether it was allowed, and what came of it. A call that is allowed may fail for other reasons; one that ended before
/// it was decided on was neither allowed nor denied.
fn verdict(outcome: Outcome, is_permitted: bool) -> (&'static str, &'static str) {
    let undecided = if is_permitted { "allow" } else { "none" };
    match outcome {
        Outcome::Issued => ("allow", "issued"),
        Outcome::NotModified => ("allow", "not_modified"),
        Outcome::Answered => ("allow", "answered"),
        Outcome::Cancelled => (undecided, "cancelled"),
        Outcome::Failed(Reason::DeadlineExceeded) => (undecided, "deadline"),
        // Nobody can be told apart from anybody without keys, and who asks too often is let in no more than a stranger.
        Outcome::Failed(Reason::ClusterKeysUnavailable | Reason::CallerThrottled) => ("deny", "refused"),
        Outcome::Failed(reason) => match reason.retry_class() {
            RetryClass::Denied | RetryClass::Caller => ("deny", "refused"),
            RetryClass::Waiting | RetryClass::Permanent | RetryClass::Throttled | RetryClass::Transient => {
                (undecided, "failed")
            }
        },
    }
}

fn who<'a>(caller: &'a Caller, facts: &Facts, ended: &'a Ended<'_>) -> CallerPart<'a> {
    let evidence = &caller.evidence;
    CallerPart {
        cluster: &caller.cluster.config.name,
        subject: Text(&caller.subject),
        role: facts.role.map(Role::as_str),
        key_id: evidence.key_id.as_deref().map(Text),
        key_thumbprint: &evidence.key_thumbprint,
        token_id: evidence.token_id.as_deref().map(Text),
        token_fingerprint: ended.caller_token.as_deref(),
    }
}

fn what<'a>(request: &'a DockerConfigRequest, facts: &'a Facts) -> RequestPart<'a> {
    RequestPart {
        namespace: &request.namespace,
        binding: &request.binding,
        binding_uid: &request.binding_uid,
        service_accounts: &request.service_accounts,
        identity: match &request.identity {
            RequestedIdentity::Federated { tenant, client, .. } => IdentityPart::Federated {
                tenant: facts.tenant.as_ref().or(tenant.as_ref()).map(TenantId::as_str),
                client_id: client.as_str(),
                subject: facts.subject.as_deref(),
            },
            RequestedIdentity::BrokerOwned(IdentitySelector::ClientId(id)) => IdentityPart::BrokerOwned {
                name: facts.identity.as_deref(),
                client_id: Some(id.as_str()),
                resource_id: None,
            },
            RequestedIdentity::BrokerOwned(IdentitySelector::ResourceId(id)) => IdentityPart::BrokerOwned {
                name: facts.identity.as_deref(),
                client_id: None,
                resource_id: Some(id.as_str()),
            },
        },
        registry: request.registry.as_str(),
        scopes: Scopes(&request.scopes),
        cloud: Some(foreign::cloud(&request.cloud.name)).filter(|name| !name.is_empty()),
        authority_host: Some(&request.cloud.authority_host)
            .filter(|host| !host.is_empty())
            .map(|host| foreign::authority(host)),
        force: request.wish.force,
    }
}

fn dropped(selection: &Invalidation, entries: u64) -> InvalidatePart<'_> {
    InvalidatePart {
        cluster: selection.cluster.as_deref().map(Text),
        subject: selection.subject.as_deref().map(Text),
        identity: selection.identity.as_deref().map(Text),
        registry: selection.registry.as_ref().map(RegistryHost::as_str),
        dropped: entries,
    }
}

fn explained(explained: &Explained) -> ExplainPart<'_> {
    ExplainPart {
        cluster: &explained.cluster,
        verdict: explained.verdict,
        reason: &explained.reason,
    }
}

fn handed(handed: &Handed) -> CredentialPart<'_> {
    CredentialPart {
        token_fingerprint: handed.token_fingerprint.as_deref(),
        payload_fingerprint: format!("{:?}", handed.payload_fingerprint),
        expires: Time(handed.expires_at),
        scopes: Scopes(&handed.granted),
        degraded: handed.degraded,
    }
}

impl Permission {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Grant(_) => "grant",
            Self::NotNeeded => "not_needed",
            Self::ReportOnly => "report_only",
            Self::Role => "role",
        }
    }

    fn grant(&self) -> Option<&str> {
        match self {
            Self::Grant(name) => Some(name),
            Self::NotNeeded | Self::ReportOnly | Self::Role => None,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls it with"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests;
