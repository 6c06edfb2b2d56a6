//! Answers as they were seen on the wire, and what they mean.

use proto::catalogue::RetryClass;

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
        .collect()
}

fn entra_says(status: u16, body: &str) -> CredentialError {
    let refusal = refusal(Endpoint::Entra, status, &HeaderMap::new(), body.as_bytes());
    entra(&UpstreamError::Refused(refusal), "issuer i, subject s")
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
        (401, "invalid_client", 700_024, Reason::FederationRejected),
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
    let says = |status, body: &str| {
        let refusal = refusal(Endpoint::Imds, status, &HeaderMap::new(), body.as_bytes());
        imds(&UpstreamError::Refused(refusal), "identity web").reason
    };
    assert_eq!(
        says(
            400,
            r#"{"error":"invalid_request","error_description":"Identity not found"}"#
        ),
        Reason::IdentityNotFound
    );
    assert_eq!(
        says(
            400,
            r#"{"error":"invalid_resource","error_description":"AADSTS50001"}"#
        ),
        Reason::AudienceRejected
    );
    assert_eq!(says(404, ""), Reason::IdentityEndpointUnreachable);
    assert_eq!(says(410, ""), Reason::IdentityEndpointUnreachable);
    assert_eq!(says(429, ""), Reason::UpstreamThrottled);
    assert_eq!(
        says(500, r#"{"error":"unknown"}"#),
        Reason::IdentityEndpointUnreachable
    );
}

#[test]
fn classify_registry_answers() {
    let host: RegistryHost = "example.azurecr.io".parse().unwrap();
    let refused = |endpoint, status, body: &str| {
        UpstreamError::Refused(refusal(endpoint, status, &HeaderMap::new(), body.as_bytes()))
    };
    let unauthorized =
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required, CorrelationId: 1"}]}"#;
    let denied =
        r#"{"errors":[{"code":"DENIED","message":"client with IP '20.1.2.3' is not allowed access."}]}"#;
    for (error, reason) in [
        (
            exchange(&refused(Endpoint::Exchange, 401, unauthorized), &host),
            Reason::RegistryUnauthorized,
        ),
        (
            exchange(&refused(Endpoint::Exchange, 403, denied), &host),
            Reason::RegistryForbidden,
        ),
        (
            token(&refused(Endpoint::Token, 401, unauthorized), &host),
            Reason::ScopeRejected,
        ),
        (
            token(&refused(Endpoint::Token, 429, "Ref A: 1"), &host),
            Reason::UpstreamThrottled,
        ),
        (
            exchange(&refused(Endpoint::Exchange, 503, ""), &host),
            Reason::RegistryUnreachable,
        ),
        (
            exchange(&UpstreamError::NoSuchName, &host),
            Reason::RegistryNotFound,
        ),
        (
            exchange(&UpstreamError::ForbiddenAddress, &host),
            Reason::RegistryNotFound,
        ),
        (
            exchange(&UpstreamError::Timeout, &host),
            Reason::RegistryUnreachable,
        ),
        (
            exchange(&UpstreamError::Malformed("holds no token"), &host),
            Reason::UpstreamMalformed,
        ),
    ] {
        assert_eq!(error.reason, reason);
        assert!(
            !error.message.contains("CorrelationId") && !error.message.contains("20.1.2.3"),
            "{}",
            error.message
        );
    }
}

#[test]
fn l3_what_an_upstream_wrote_reaches_no_text() {
    let canary = r#"{"error":"canary prose","error_description":"canary","error_codes":[1],"errors":[{"code":"canary text"}]}"#;
    let error = entra_says(400, canary);
    assert!(!format!("{error:?}").contains("canary"));
}

#[test]
fn u1_retry_after_is_read_in_both_forms_and_capped() {
    let wait = |pairs: &[(&'static str, &str)]| retry_after(&headers(pairs));
    assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
    assert_eq!(wait(&[("retry-after", "99999")]), Some(MAX_RETRY_AFTER));
    let date = ("date", "Sat, 21 Nov 2026 10:00:00 GMT");
    assert_eq!(
        wait(&[("retry-after", "Sat, 21 Nov 2026 10:01:30 GMT"), date]),
        Some(Duration::from_secs(90))
    );
    assert_eq!(
        wait(&[("retry-after", "Sat, 21 Nov 2026 09:00:00 GMT"), date]),
        Some(Duration::ZERO)
    );
    for garbage in ["", "soon", "-1"] {
        assert_eq!(wait(&[("retry-after", garbage), date]), None, "{garbage}");
    }
    assert_eq!(Reason::UpstreamThrottled.retry_class(), RetryClass::Throttled);
}
