//! What the instance metadata service says in words of its own.

use proto::Reason;
use serde_json::{Value, json};

use crate::row::{CANARY, Hop, Meaning, Row};

pub(super) fn rows() -> Vec<Row> {
    let row = |name, action, meaning| Row::new(Hop::Imds, name, action, meaning);
    let refused = |name, action, reason| row(name, action, Meaning::Refused(reason));
    vec![
        refused(
            "identity-not-found",
            said(400, "invalid_request", "Identity not found"),
            Reason::IdentityNotFound,
        ),
        refused(
            "resource-unknown",
            said(400, "invalid_resource", &format!("AADSTS50001: {CANARY}")),
            Reason::AudienceRejected,
        ),
        refused(
            "not-configured",
            said(401, "unknown_source", CANARY),
            Reason::IdentityNotFound,
        ),
        // It never says so itself: that is a proxy in its place, where there is none.
        refused(
            "forbidden",
            json!({"type": "status", "code": 403, "body": CANARY}),
            Reason::IdentityEndpointUnreachable,
        ),
        // What it says while it is being updated.
        refused(
            "updating-404",
            json!({"type": "status", "code": 404}),
            Reason::IdentityEndpointUnreachable,
        ),
        refused(
            "updating-410",
            json!({"type": "status", "code": 410}),
            Reason::IdentityEndpointUnreachable,
        ),
        refused(
            "without-a-lifetime",
            json!({"type": "json_quirk", "missing": ["expires_in", "expires_on"]}),
            Reason::UpstreamMalformed,
        ),
        row(
            "expiry-as-number",
            json!({"type": "json_quirk", "expires_on_number": true}),
            Meaning::Served,
        ),
    ]
}

fn said(status: u16, error: &str, description: &str) -> Value {
    json!({
        "type": "status",
        "code": status,
        "content_type": "application/json; charset=utf-8",
        "body": json!({"error": error, "error_description": description}).to_string(),
    })
}
