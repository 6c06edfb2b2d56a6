//! What Entra says in words of its own.

use proto::Reason;
use serde_json::{Value, json};

use crate::row::{CANARY, Hop, Meaning, Row};

pub(super) fn rows() -> Vec<Row> {
    let refused =
        |name: &str, action: Value, reason| Row::new(Hop::Entra, name, action, Meaning::Refused(reason));
    let coded = |status, error, code: u32, reason| {
        refused(
            &format!("aadsts{code}"),
            said(status, error, code, " Trace ID:"),
            reason,
        )
    };
    vec![
        coded(401, "invalid_client", 700_211, Reason::FederationRejected),
        coded(401, "invalid_client", 700_212, Reason::FederationRejected),
        coded(401, "invalid_client", 700_213, Reason::FederationRejected),
        coded(401, "invalid_client", 7_002_138, Reason::FederationRejected),
        coded(400, "invalid_request", 70_021, Reason::FederationRejected),
        coded(401, "invalid_client", 700_024, Reason::FederationRejected),
        coded(401, "invalid_client", 700_027, Reason::FederationRejected),
        coded(400, "invalid_request", 50_166, Reason::FederationRejected),
        coded(400, "unauthorized_client", 700_016, Reason::IdentityNotFound),
        coded(401, "invalid_client", 7_000_229, Reason::IdentityNotFound),
        coded(400, "invalid_request", 90_002, Reason::TenantNotFound),
        coded(400, "invalid_request", 90_038, Reason::TenantNotFound),
        coded(400, "invalid_resource", 500_011, Reason::AudienceRejected),
        coded(400, "invalid_resource", 50_001, Reason::AudienceRejected),
        coded(400, "invalid_grant", 53_003, Reason::EntraRejected),
        coded(400, "temporarily_unavailable", 90_033, Reason::EntraUnreachable),
        // Escapes of JSON in the description lose an SDK its status and code.
        refused(
            "crlf-in-the-description",
            said(401, "invalid_client", 700_213, "\r\nTrace ID:"),
            Reason::FederationRejected,
        ),
        refused(
            "refusal-that-is-no-json",
            json!({"type": "status", "code": 400, "body": CANARY}),
            Reason::EntraRejected,
        ),
        refused(
            "without-a-lifetime",
            json!({"type": "json_quirk", "missing": ["expires_in"]}),
            Reason::UpstreamMalformed,
        ),
        Row::new(
            Hop::Entra,
            "lifetime-as-text",
            json!({"type": "json_quirk", "expires_in_string": true}),
            Meaning::Served,
        ),
    ]
}

fn said(status: u16, error: &str, code: u32, trailer: &str) -> Value {
    let body = json!({
        "error": error,
        "error_description": format!(
            "AADSTS{code}: {CANARY} 'system:serviceaccount:team:web'.{trailer} fe9fbfcb-e303-4bd9-8083-db2f873c3400"
        ),
        "error_codes": [code],
        "timestamp": "2026-02-08 00:24:38Z",
        "trace_id": "fe9fbfcb-e303-4bd9-8083-db2f873c3400",
        "correlation_id": "a876ada9-c13f-4ccd-b830-c2b0795ed03d",
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    });
    json!({
        "type": "status",
        "code": status,
        "content_type": "application/json; charset=utf-8",
        "headers": {"x-ms-request-id": "fe9fbfcb-e303-4bd9-8083-db2f873c3400"},
        "body": body.to_string(),
    })
}
