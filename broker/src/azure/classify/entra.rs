//! What Entra ID says when one token is exchanged for another.
//!
//! Microsoft forbids depending on texts and says that codes may change, so status and `error` decide where they can;
//! AADSTS numbers only choose between reasons that are retried alike, and tell people which of Entra's checks said no.

use proto::Reason;

use super::{Party, Presented, Refusal, UpstreamError};
use crate::error::CredentialError;

/// `presented` says what was presented, for a person to compare with what is configured in Azure.
pub(in crate::azure) fn entra(error: &UpstreamError, presented: &Presented) -> CredentialError {
    let presented = presented.clone();
    Party {
        name: "Entra ID".into(),
        down: Reason::EntraUnreachable,
        nowhere: Reason::EntraUnreachable,
        refused: Box::new(move |refusal| refused(refusal, &presented)),
    }
    .classify(error)
}

fn refused(refusal: &Refusal, presented: &Presented) -> CredentialError {
    let Presented { whose, what } = presented;
    let number = refusal
        .aadsts
        .map_or_else(String::new, |number| format!(" (AADSTS{number})"));
    let (reason, text) = match refusal.aadsts {
        // No federated credential for issuer, audience or subject; also while a new one propagates.
        Some(70_021 | 700_211 | 700_212 | 700_213 | 7_002_137 | 7_002_138) => (
            Reason::FederationRejected,
            format!("Entra ID has no federated credential that matches {what}"),
        ),
        Some(700_024) => (
            Reason::FederationRejected,
            format!("{whose} is not valid by the clock of Entra ID: {what}"),
        ),
        Some(50_166) => (
            Reason::FederationRejected,
            format!("Entra ID cannot fetch the keys of the issuer, which must be reachable for it: {what}"),
        ),
        // Passes with the rotation of the issuer's keys.
        Some(700_027 | 900_384 | 50_013) => (
            Reason::FederationRejected,
            format!("Entra ID cannot verify {whose}: {what}"),
        ),
        // What the issuer signs, or how, is not what Entra accepts. That changes only if somebody changes it.
        Some(50_027 | 5_002_727 | 5_002_738) => (
            Reason::EntraRejected,
            format!("Entra ID does not accept tokens of this form or algorithm: {what}"),
        ),
        // One hop too many.
        Some(700_222 | 700_231) => (
            Reason::EntraRejected,
            format!(
                "Entra ID takes no token here that came out of a federated credential or is an application's: {what}"
            ),
        ),
        Some(700_016 | 7_000_229) => (
            Reason::IdentityNotFound,
            "the tenant has no identity with this client id".to_owned(),
        ),
        Some(90_002 | 90_038) => (
            Reason::TenantNotFound,
            "the tenant was not found in this cloud".to_owned(),
        ),
        Some(500_011 | 50_001 | 70_011 | 700_022) => (
            Reason::AudienceRejected,
            "Entra ID does not know the audience that was asked for".to_owned(),
        ),
        // Said with a 4xx at times, and over soon.
        Some(90_006 | 90_012 | 90_024 | 90_033 | 90_090) => (
            Reason::EntraUnreachable,
            "Entra ID is temporarily unavailable".to_owned(),
        ),
        Some(53_000..=53_011 | 530_032 | 530_034..=530_036) => (
            Reason::EntraRejected,
            "a conditional access policy of the tenant refuses the identity".to_owned(),
        ),
        Some(_) | None => by_word(refusal, presented),
    };
    CredentialError::new(reason, format!("{text}{number}"))
}

/// Numbers come and go; `error` is what clients are told to rely on (RFC 6749 section 5.2).
fn by_word(refusal: &Refusal, presented: &Presented) -> (Reason, String) {
    let Presented { whose, what } = presented;
    match refusal.code.as_deref() {
        Some("invalid_client") => (
            Reason::FederationRejected,
            format!("Entra ID did not accept {whose}: {what}"),
        ),
        Some("unauthorized_client") => (
            Reason::IdentityNotFound,
            "the tenant has no identity with this client id".to_owned(),
        ),
        Some("invalid_tenant") => (
            Reason::TenantNotFound,
            "the tenant was not found in this cloud".to_owned(),
        ),
        Some("invalid_resource" | "invalid_scope") => (
            Reason::AudienceRejected,
            "Entra ID does not know the audience that was asked for".to_owned(),
        ),
        Some("temporarily_unavailable" | "server_error") => (
            Reason::EntraUnreachable,
            "Entra ID is temporarily unavailable".to_owned(),
        ),
        Some(_) | None => (
            Reason::EntraRejected,
            format!("Entra ID refused the request with status {}", refusal.status),
        ),
    }
}
