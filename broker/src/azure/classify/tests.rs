//! Answers as they were seen on the wire, and what they mean.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use proto::{catalogue::RetryClass, types::RegistryHost};

use super::*;
use crate::azure::transport::{Endpoint, Part, Stage};

fn refusal(endpoint: Endpoint, status: u16, body: &str) -> UpstreamError {
    let now = std::time::UNIX_EPOCH;
    UpstreamError::Refused(Refusal::read(
        endpoint,
        status,
        &HeaderMap::new(),
        body.as_bytes(),
        now,
    ))
}

fn host() -> RegistryHost {
    "example.azurecr.io".parse().unwrap()
}

pub(super) fn presented() -> Presented {
    Presented::service_account("i", "s", &["a".to_owned()])
}

fn entra_says(status: u16, body: &str) -> CredentialError {
    entra(&refusal(Endpoint::Entra, status, body), &presented())
}

fn entra_body(error: &str, code: u32) -> String {
    format!(
        r#"{{"error":"{error}","error_description":"AADSTS{code}: text\r\nTrace ID: x","error_codes":[{code}]}}"#
    )
}

#[test]
fn classify_entra_codes() {
    for (status, error, code, reason) in [
        (401, "invalid_client", 700_211, Reason::FederationRejected),
        (401, "invalid_client", 700_212, Reason::FederationRejected),
        (401, "invalid_client", 700_213, Reason::FederationRejected),
        (400, "invalid_request", 70_021, Reason::FederationRejected),
        (401, "invalid_client", 7_002_137, Reason::FederationRejected),
        (401, "invalid_client", 7_002_138, Reason::FederationRejected),
        (401, "invalid_client", 700_024, Reason::FederationRejected),
        (401, "invalid_client", 700_027, Reason::FederationRejected),
        (400, "invalid_request", 900_384, Reason::FederationRejected),
        (400, "invalid_request", 50_013, Reason::FederationRejected),
        (400, "invalid_request", 50_166, Reason::FederationRejected),
        (400, "invalid_request", 50_027, Reason::EntraRejected),
        (400, "invalid_request", 5_002_727, Reason::EntraRejected),
        (400, "invalid_request", 5_002_738, Reason::EntraRejected),
        (401, "invalid_client", 700_222, Reason::EntraRejected),
        (401, "invalid_client", 700_231, Reason::EntraRejected),
        (401, "invalid_client", 7_000_229, Reason::IdentityNotFound),
        (400, "invalid_request", 90_038, Reason::TenantNotFound),
        (400, "invalid_scope", 70_011, Reason::AudienceRejected),
        (400, "invalid_request", 700_022, Reason::AudienceRejected),
        (400, "invalid_request", 900_144, Reason::EntraRejected),
        (400, "invalid_request", 9_002_313, Reason::EntraRejected),
        (400, "invalid_request", 530_032, Reason::EntraRejected),
        (400, "invalid_request", 90_055, Reason::UpstreamThrottled),
        (400, "invalid_request", 90_006, Reason::EntraUnreachable),
        (400, "invalid_request", 90_012, Reason::EntraUnreachable),
        (400, "invalid_request", 90_024, Reason::EntraUnreachable),
        (400, "invalid_request", 90_090, Reason::EntraUnreachable),
        (400, "invalid_tenant", 999_998, Reason::TenantNotFound),
        (400, "unauthorized_client", 700_016, Reason::IdentityNotFound),
        (400, "invalid_request", 90_002, Reason::TenantNotFound),
        (400, "invalid_resource", 500_011, Reason::AudienceRejected),
        (400, "invalid_resource", 50_001, Reason::AudienceRejected),
        (400, "invalid_request", 53_003, Reason::EntraRejected),
        // Codes come and go: the word decides where the number is new.
        (401, "invalid_client", 999_999, Reason::FederationRejected),
        (400, "temporarily_unavailable", 90_006, Reason::EntraUnreachable),
        (503, "server_error", 90_033, Reason::EntraUnreachable),
        (429, "invalid_request", 90_055, Reason::UpstreamThrottled),
    ] {
        let error = entra_says(status, &entra_body(error, code));
        assert_eq!(error.reason, reason, "{code}");
        assert!(
            !error.message.contains("Trace"),
            "no upstream text: {}",
            error.message
        );
    }
}

#[test]
fn classify_entra_answers_that_are_no_json() {
    assert_eq!(
        entra_says(502, "<html>Bad Gateway</html>").reason,
        Reason::EntraUnreachable
    );
    assert_eq!(entra_says(400, "").reason, Reason::EntraRejected);
    assert_eq!(entra_says(302, "").reason, Reason::UpstreamMalformed);
    let by_text = entra_says(
        401,
        r#"{"error":"invalid_client","error_description":"AADSTS700213: No matching"}"#,
    );
    assert!(by_text.message.contains("AADSTS700213"), "{}", by_text.message);
}

#[test]
fn classify_imds_answers() {
    for (status, body, reason, retry_after) in [
        (
            400,
            r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
            Reason::IdentityNotFound,
            None,
        ),
        (
            400,
            r#"{"error":"invalid_request","error_description":"Multiple user assigned identities exist"}"#,
            Reason::IdentityNotFound,
            None,
        ),
        (
            400,
            r#"{"error":"invalid_resource","error_description":"AADSTS50001"}"#,
            Reason::AudienceRejected,
            None,
        ),
        (
            400,
            r#"{"error":"bad_request_102"}"#,
            Reason::IdentityEndpointUnreachable,
            Some(60),
        ),
        (
            401,
            r#"{"error":"unknown_source"}"#,
            Reason::IdentityNotFound,
            None,
        ),
        (403, "unreachable", Reason::IdentityEndpointUnreachable, Some(60)),
        (404, "", Reason::IdentityEndpointUnreachable, None),
        (410, "", Reason::IdentityEndpointUnreachable, None),
        (429, "", Reason::UpstreamThrottled, None),
        (
            500,
            r#"{"error":"unknown"}"#,
            Reason::IdentityEndpointUnreachable,
            None,
        ),
    ] {
        let error = imds(&refusal(Endpoint::Imds, status, body), "identity web");
        assert_eq!(error.reason, reason, "{status} {body}");
        assert_eq!(
            error.retry_after,
            retry_after.map(Duration::from_secs),
            "{status} {body}"
        );
    }
}

#[test]
fn classify_registry_answers() {
    let unauthorized =
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required, CorrelationId: 1"}]}"#;
    let firewall =
        r#"{"errors":[{"code":"DENIED","message":"client with IP '20.1.2.3' is not allowed access."}]}"#;
    let permissions = r#"{"errors":[{"code":"DENIED","message":"retrieving permissions failed"}]}"#;
    for (status, body, at_exchange, at_token) in [
        (
            401,
            unauthorized,
            Reason::RegistryUnauthorized,
            Reason::ScopeRejected,
        ),
        (400, "", Reason::RegistryUnauthorized, Reason::ScopeRejected),
        (
            403,
            firewall,
            Reason::RegistryForbidden,
            Reason::RegistryForbidden,
        ),
        (
            403,
            permissions,
            Reason::RegistryUnauthorized,
            Reason::ScopeRejected,
        ),
        (403, "", Reason::RegistryForbidden, Reason::RegistryForbidden),
        (404, "", Reason::RegistryNotFound, Reason::RegistryNotFound),
        (405, "", Reason::UpstreamMalformed, Reason::UpstreamMalformed),
        (307, "", Reason::UpstreamMalformed, Reason::UpstreamMalformed),
        (
            429,
            "Ref A: 1",
            Reason::UpstreamThrottled,
            Reason::UpstreamThrottled,
        ),
        (
            503,
            "<html>",
            Reason::RegistryUnreachable,
            Reason::RegistryUnreachable,
        ),
        (408, "", Reason::RegistryUnreachable, Reason::RegistryUnreachable),
    ] {
        for (error, reason) in [
            (
                exchange(&refusal(Endpoint::Exchange, status, body), &host()),
                at_exchange,
            ),
            (token(&refusal(Endpoint::Token, status, body), &host()), at_token),
        ] {
            assert_eq!(error.reason, reason, "{status} {body}");
            assert!(
                !error.message.contains("CorrelationId") && !error.message.contains("20.1.2.3"),
                "{}",
                error.message
            );
        }
    }
}

#[test]
fn classify_exchanges_without_an_answer() {
    let faults = [
        TlsFault::Untrusted,
        TlsFault::WrongName,
        TlsFault::Expired,
        TlsFault::OldVersion,
        TlsFault::Other,
    ];
    let mut texts: Vec<_> = faults
        .map(|fault| {
            let error = UpstreamError::Transport(TransportError::Tls(fault));
            let error = exchange(&error, &host());
            assert_eq!(error.reason, Reason::RegistryUnreachable);
            error.message
        })
        .into();
    for (error, at_registry, at_entra) in [
        (
            TransportError::NoSuchName,
            Reason::RegistryNotFound,
            Reason::EntraUnreachable,
        ),
        (
            TransportError::ForbiddenAddress,
            Reason::RegistryNotFound,
            Reason::EntraUnreachable,
        ),
        (
            TransportError::LookupFailed,
            Reason::RegistryUnreachable,
            Reason::EntraUnreachable,
        ),
        (
            TransportError::Connect,
            Reason::RegistryUnreachable,
            Reason::EntraUnreachable,
        ),
        (
            TransportError::Timeout(Stage::Body),
            Reason::RegistryUnreachable,
            Reason::EntraUnreachable,
        ),
        (
            TransportError::Oversized(Part::Body),
            Reason::UpstreamMalformed,
            Reason::UpstreamMalformed,
        ),
    ] {
        let error = UpstreamError::Transport(error);
        let said = exchange(&error, &host());
        assert_eq!(said.reason, at_registry);
        assert_eq!(entra(&error, &presented()).reason, at_entra);
        texts.push(said.message);
    }
    let count = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), count, "each remedy has a text of its own");
}

#[test]
fn classify_call_that_was_not_made_is_what_the_last_one_was_and_remembered() {
    let last = refusal(
        Endpoint::Exchange,
        503,
        r#"{"errors":[{"message":"CorrelationId: 00000000-1111"}]}"#,
    );
    let retry_after = Duration::from_secs(7);
    for (why, reason) in [
        (Why::Paused, Reason::UpstreamThrottled),
        (
            Why::CircuitOpen(Arc::new(last.clone())),
            Reason::RegistryUnreachable,
        ),
        (
            Why::RetryBudget(Some(Arc::new(last.clone()))),
            Reason::RegistryUnreachable,
        ),
        (Why::RetryBudget(None), Reason::Overloaded),
        (Why::NoPlace, Reason::Overloaded),
    ] {
        let error = exchange(&UpstreamError::Withheld(Withheld { why, retry_after }), &host());
        assert_eq!(error.reason, reason);
        assert_eq!(
            (error.retry_after, error.is_remembered),
            (Some(retry_after), true)
        );
        assert_eq!(error.azure_request_id, None);
        if reason == Reason::RegistryUnreachable {
            assert_eq!(
                error.message,
                exchange(&last, &host()).message,
                "a text does not flap"
            );
        }
    }
    assert_eq!(Reason::UpstreamThrottled.retry_class(), RetryClass::Throttled);
}

#[test]
fn l3_what_an_upstream_wrote_reaches_no_text() {
    let canary = r#"{"error":"canary prose","error_description":"canary","error_codes":[1],"errors":[{"code":"canary text"}]}"#;
    let error = entra_says(400, canary);
    assert!(!format!("{error:?}").contains("canary"));
}
