//! What an answer of Azure means: from status and code to a reason of the catalogue, a stable public text, a time.
//!
//! Microsoft forbids depending on texts and says that codes may change, so status and `error` decide where they can;
//! AADSTS numbers only choose between reasons that are retried alike, and tell people which of Entra's checks said no.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName,
    header::{DATE, RETRY_AFTER},
};
use proto::{Reason, types::RegistryHost};
use serde::Deserialize;

use super::upstream::{Endpoint, Refusal, UpstreamError, request_id};
use crate::error::CredentialError;

/// Retry-After beyond this is a mistake.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The error bodies of all endpoints: Entra and IMDS name one `error`, registries a list of `errors`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error: String,
    error_description: String,
    error_codes: Vec<u32>,
    errors: Vec<RegistryError>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RegistryError {
    code: String,
}

/// Keeps what may be kept of an answer other than 2xx.
pub(super) fn refusal(endpoint: Endpoint, status: u16, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let body: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let is_word = |text: &String| {
        !text.is_empty()
            && text.len() <= 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let code = Some(body.error)
        .filter(is_word)
        .or_else(|| body.errors.into_iter().next().map(|e| e.code).filter(is_word));
    let aadsts = body
        .error_codes
        .first()
        .copied()
        .or_else(|| aadsts_in(&body.error_description));
    Refusal {
        status,
        code,
        aadsts,
        is_identity_missing: endpoint == Endpoint::Imds
            && body.error_description.contains("Identity not found"),
        retry_after: retry_after(headers),
        request_id: request_id(headers),
    }
}

/// Retry-After in either form (RFC 9110 section 10.2.3). A date is read against the answer's own `Date`, so that a clock
/// that is off, theirs or ours, does not matter.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let date = |name: HeaderName| httpdate::parse_http_date(text(name)?).ok();
    let wait = match text(RETRY_AFTER)?.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_a_date_perhaps) => date(RETRY_AFTER)?.duration_since(date(DATE)?).unwrap_or_default(),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// `AADSTS700213: ...` where the list of codes is missing.
fn aadsts_in(description: &str) -> Option<u32> {
    let (_, rest) = description.split_once("AADSTS")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// What Entra said to a federated request. `assertion` says what was presented, for a person to compare with Azure.
pub(super) fn entra(error: &UpstreamError, presented: &str) -> CredentialError {
    let UpstreamError::Refused(refusal) = error else {
        return unreachable(error, Reason::EntraUnreachable, "Entra ID");
    };
    if let Some(waits) = throttled_or_down(refusal, Reason::EntraUnreachable, "Entra ID") {
        return waits;
    }
    let number = refusal
        .aadsts
        .map_or_else(String::new, |number| format!(" (AADSTS{number})"));
    let (reason, text) = match refusal.aadsts {
        // No federated credential for issuer, audience, subject; also while a new one propagates.
        Some(70021 | 700_211 | 700_212 | 700_213 | 7_002_137 | 7_002_138) => (
            Reason::FederationRejected,
            format!("Entra ID has no federated credential that matches {presented}{number}"),
        ),
        // An assertion outside its validity is a matter of clocks; signature problems pass with key rotation.
        Some(700_024 | 700_027 | 900_384 | 50_013 | 50_166) => (
            Reason::FederationRejected,
            format!("Entra ID did not accept the ServiceAccount's token, {presented}{number}"),
        ),
        Some(700_016 | 7_000_229) => (
            Reason::IdentityNotFound,
            format!("the tenant has no identity with this client id{number}"),
        ),
        Some(90_002 | 90_038) => (
            Reason::TenantNotFound,
            format!("the tenant was not found in this cloud{number}"),
        ),
        Some(500_011 | 50_001 | 70_011) => (
            Reason::AudienceRejected,
            format!("Entra ID does not know the audience for registry tokens{number}"),
        ),
        _ => match refusal.code.as_deref() {
            Some("invalid_client") => (
                Reason::FederationRejected,
                format!("Entra ID did not accept the ServiceAccount's token, {presented}{number}"),
            ),
            Some("unauthorized_client") => (
                Reason::IdentityNotFound,
                format!("the tenant has no identity with this client id{number}"),
            ),
            Some("temporarily_unavailable") => {
                return unreachable(error, Reason::EntraUnreachable, "Entra ID");
            }
            _ => (
                Reason::EntraRejected,
                format!(
                    "Entra ID refused the request with status {}{number}",
                    refusal.status
                ),
            ),
        },
    };
    with_id(CredentialError::new(reason, text), refusal)
}

/// What the metadata service said.
pub(super) fn imds(error: &UpstreamError, identity: &str) -> CredentialError {
    const WHAT: &str = "the instance metadata service";
    let UpstreamError::Refused(refusal) = error else {
        return unreachable(error, Reason::IdentityEndpointUnreachable, WHAT);
    };
    // 404 and 410 are what it says while it is being updated.
    if matches!(refusal.status, 404 | 410) {
        return unreachable(error, Reason::IdentityEndpointUnreachable, WHAT);
    }
    if let Some(waits) = throttled_or_down(refusal, Reason::IdentityEndpointUnreachable, WHAT) {
        return waits;
    }
    let error = if refusal.code.as_deref() == Some("invalid_resource") {
        CredentialError::new(
            Reason::AudienceRejected,
            "the metadata service does not know the audience for registry tokens",
        )
    } else if refusal.is_identity_missing || refusal.status == 400 {
        CredentialError::new(
            Reason::IdentityNotFound,
            format!("{identity} is not assigned to the broker's host"),
        )
    } else {
        CredentialError::new(
            Reason::IdentityNotFound,
            format!(
                "the metadata service refused {identity} with status {}",
                refusal.status
            ),
        )
    };
    with_id(error, refusal)
}

/// What a registry said to `/oauth2/exchange`.
pub(super) fn exchange(error: &UpstreamError, host: &RegistryHost) -> CredentialError {
    registry(
        error,
        host,
        Reason::RegistryUnauthorized,
        "knows no role of the identity (a new role takes up to 10 minutes)",
    )
}

/// What a registry said to `/oauth2/token`.
pub(super) fn token(error: &UpstreamError, host: &RegistryHost) -> CredentialError {
    registry(error, host, Reason::ScopeRejected, "did not grant the scope")
}

fn registry(error: &UpstreamError, host: &RegistryHost, unauthorized: Reason, text: &str) -> CredentialError {
    let name = format!("registry {host}");
    let refusal = match error {
        UpstreamError::Refused(refusal) => refusal,
        UpstreamError::NoSuchName => {
            return CredentialError::new(Reason::RegistryNotFound, format!("{name} does not resolve"));
        }
        UpstreamError::ForbiddenAddress => {
            return CredentialError::new(
                Reason::RegistryNotFound,
                format!("{name} resolves to an address that no token may go to"),
            );
        }
        UpstreamError::Connect(_)
        | UpstreamError::Timeout
        | UpstreamError::Broken(_)
        | UpstreamError::Malformed(_)
        | UpstreamError::NoPlace => return unreachable(error, Reason::RegistryUnreachable, &name),
    };
    if let Some(waits) = throttled_or_down(refusal, Reason::RegistryUnreachable, &name) {
        return waits;
    }
    let error = match refusal.status {
        400 | 401 => CredentialError::new(unauthorized, format!("{name} {text}")),
        403 => CredentialError::new(
            Reason::RegistryForbidden,
            format!("{name} refuses the broker's address: its network rules must admit it"),
        ),
        404 => CredentialError::new(Reason::RegistryNotFound, format!("{name} has no token endpoint")),
        status => CredentialError::new(
            Reason::UpstreamMalformed,
            format!("{name} answered with status {status}"),
        ),
    };
    with_id(error, refusal)
}

fn throttled_or_down(refusal: &Refusal, down: Reason, who: &str) -> Option<CredentialError> {
    match refusal.status {
        429 => {
            let error = CredentialError::new(
                Reason::UpstreamThrottled,
                format!("{who} asked for fewer requests"),
            );
            Some(with_id(
                CredentialError {
                    retry_after: refusal.retry_after,
                    ..error
                },
                refusal,
            ))
        }
        408 | 500..=599 => {
            let error = CredentialError::new(down, format!("{who} failed"));
            Some(with_id(
                CredentialError {
                    retry_after: refusal.retry_after,
                    ..error
                },
                refusal,
            ))
        }
        // A redirect is not followed: it could carry a token elsewhere.
        300..=399 => Some(CredentialError::new(
            Reason::UpstreamMalformed,
            format!("{who} answered with a redirect, which is never followed"),
        )),
        _ => None,
    }
}

fn unreachable(error: &UpstreamError, reason: Reason, who: &str) -> CredentialError {
    match error {
        UpstreamError::Malformed(what) => {
            CredentialError::new(Reason::UpstreamMalformed, format!("the answer of {who} {what}"))
        }
        UpstreamError::NoPlace => CredentialError::new(
            Reason::Overloaded,
            format!("too many calls to {who} are in flight"),
        ),
        UpstreamError::Timeout => CredentialError::new(reason, format!("{who} did not answer in time")),
        UpstreamError::Refused(_)
        | UpstreamError::NoSuchName
        | UpstreamError::ForbiddenAddress
        | UpstreamError::Connect(_)
        | UpstreamError::Broken(_) => CredentialError::new(reason, format!("{who} could not be reached")),
    }
}

fn with_id(error: CredentialError, refusal: &Refusal) -> CredentialError {
    CredentialError {
        azure_request_id: refusal.request_id.clone(),
        ..error
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
