//! What a registry's token endpoints say in words of their own, and tokens that only a registry's own claims give away.

use proto::Reason;
use serde_json::{Value, json};

use crate::row::{CANARY, Hop, Meaning, Row};

pub(super) fn rows() -> Vec<Row> {
    let refused = |hop, name, action, reason| Row::new(hop, name, action, Meaning::Refused(reason));
    let mut rows = vec![
        refused(
            Hop::Exchange,
            "no-role",
            said(401, "UNAUTHORIZED", "authentication required"),
            Reason::RegistryUnauthorized,
        ),
        refused(
            Hop::Exchange,
            "firewall",
            said(
                403,
                "DENIED",
                "client with IP '20.249.167.56' is not allowed access.",
            ),
            Reason::RegistryForbidden,
        ),
        refused(
            Hop::Exchange,
            "not-a-registry",
            json!({"type": "status", "code": 404}),
            Reason::RegistryNotFound,
        ),
        refused(
            Hop::Token,
            "scope-not-granted",
            said(401, "UNAUTHORIZED", "authentication required"),
            Reason::ScopeRejected,
        ),
        refused(
            Hop::Token,
            "bare-400",
            json!({"type": "status", "code": 400}),
            Reason::ScopeRejected,
        ),
        refused(
            Hop::Token,
            "firewall",
            said(
                403,
                "DENIED",
                "client with IP '20.249.167.56' is not allowed access.",
            ),
            Reason::RegistryForbidden,
        ),
        // The edge in front of a registry does not speak JSON.
        Row::new(
            Hop::Exchange,
            "throttled-by-the-edge",
            json!({
                "type": "status", "code": 429, "body": format!("Ref A: {CANARY}"), "headers": {"retry-after": "2"},
            }),
            Meaning::Paused(Reason::UpstreamThrottled, 2),
        ),
    ];
    let defects = [
        ("opaque-token", json!({"type": "token", "opaque": true})),
        ("token-not-base64", json!({"type": "token", "not_b64": true})),
        ("token-without-exp", json!({"type": "token", "exp_as": "missing"})),
        (
            "token-with-exp-as-text",
            json!({"type": "token", "exp_as": "string"}),
        ),
        ("token-for-two-days", json!({"type": "token", "ttl_s": 172_800})),
        (
            "token-of-another-registry",
            json!({"type": "token", "wrong_aud": "other.azurecr.io"}),
        ),
    ];
    for hop in [Hop::Exchange, Hop::Token] {
        rows.extend(
            defects
                .iter()
                .map(|(name, action)| refused(hop, name, action.clone(), Reason::UpstreamMalformed)),
        );
    }
    rows
}

fn said(status: u16, code: &str, message: &str) -> Value {
    let message = format!("{message} {CANARY} CorrelationId: 0b1d1b6c-8f5e-4a0e-9a39-1a9c1f6a7d11");
    json!({
        "type": "status",
        "code": status,
        "content_type": "application/json; charset=utf-8",
        "headers": {"x-ms-correlation-request-id": "0b1d1b6c-8f5e-4a0e-9a39-1a9c1f6a7d11"},
        "body": json!({"errors": [{"code": code, "message": message}]}).to_string(),
    })
}
