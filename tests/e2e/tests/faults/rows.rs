//! The fault table: every kind of fault at every hop, and what it means to a caller.
//!
//! Actions are written as the simulator's admin API takes them. What is the same at every hop is here; what a service
//! says in words of its own is in the module of the service.

mod entra;
mod metadata;
mod registry;

use proto::Reason;
use serde_json::{Value, json};

use crate::row::{CANARY, Hop, Meaning, Row};

/// A registry that gets nothing: where redirects and challenges would lead.
pub(crate) const THIEF: &str = "thief.azurecr.io";

/// All rows.
pub(crate) fn all() -> Vec<Row> {
    let everywhere = Hop::ALL.into_iter().flat_map(|hop| {
        [
            broken_off(hop),
            silent(hop),
            odd_answers(hop),
            throttled(hop),
            statuses(hop),
        ]
        .concat_rows(hop)
    });
    let own = [entra::rows(), metadata::rows(), registry::rows()];
    everywhere.chain(own.into_iter().flatten()).collect()
}

type Line = (&'static str, Value, Meaning);

trait ConcatRows {
    fn concat_rows(self, hop: Hop) -> Vec<Row>;
}

impl<const N: usize> ConcatRows for [Vec<Line>; N] {
    fn concat_rows(self, hop: Hop) -> Vec<Row> {
        let rows = self.into_iter().flatten();
        rows.map(|(name, action, meaning)| Row::new(hop, name, action, meaning))
            .collect()
    }
}

fn statuses(hop: Hop) -> Vec<Line> {
    let down = Meaning::Refused(hop.unreachable());
    vec![
        (
            "status-500",
            json!({"type": "status", "code": 500, "body": CANARY}),
            down,
        ),
        (
            "status-502-page",
            json!({"type": "status", "code": 502, "body": format!("<html>{CANARY}</html>"), "content_type": "text/html"}),
            down,
        ),
        (
            "status-503-with-a-time",
            json!({"type": "status", "code": 503, "headers": {"retry-after": "2"}}),
            Meaning::Paused(hop.unreachable(), 2),
        ),
        ("status-504", json!({"type": "status", "code": 504}), down),
        ("status-408", json!({"type": "status", "code": 408}), down),
        (
            "redirect",
            json!({"type": "redirect", "to": format!("https://{THIEF}/oauth2/token")}),
            Meaning::Refused(Reason::UpstreamMalformed),
        ),
    ]
}

/// `Retry-After` in every form: honoured, capped at an hour, and without one the service's own default.
fn throttled(hop: Hop) -> Vec<Line> {
    let throttle = |retry_after: Value| json!({"type": "throttle", "retry_after": retry_after});
    let paused = |seconds| Meaning::Paused(Reason::UpstreamThrottled, seconds);
    let by_default = match hop {
        Hop::Entra => paused(60),
        Hop::Imds | Hop::Exchange | Hop::Token => Meaning::Refused(Reason::UpstreamThrottled),
    };
    vec![
        ("throttle-1", throttle(json!(1)), paused(1)),
        ("throttle-120", throttle(json!(120)), paused(120)),
        ("throttle-99999", throttle(json!(99_999)), paused(3_600)),
        // 30 s ahead, rounded down to a second on the way.
        ("throttle-date", throttle(json!("http-date")), paused(29)),
        ("throttle-garbage", throttle(json!("garbage")), by_default),
        ("throttle-negative", throttle(json!(-1)), by_default),
        ("throttle-bare", throttle(Value::Null), by_default),
        (
            "throttle-countdown",
            json!({"type": "throttle", "retry_after": 3, "countdown": true}),
            paused(3),
        ),
    ]
}

fn broken_off(hop: Hop) -> Vec<Line> {
    let down = Meaning::Refused(hop.unreachable());
    let mut rows = vec![
        (
            "close-before-headers",
            json!({"type": "close", "at": "before_headers"}),
            down,
        ),
        (
            "close-mid-headers",
            json!({"type": "close", "at": "mid_headers"}),
            down,
        ),
        ("close-mid-body", json!({"type": "close", "at": "mid_body"}), down),
        (
            "reset-before-headers",
            json!({"type": "reset", "at": "before_headers"}),
            down,
        ),
        (
            "reset-mid-headers",
            json!({"type": "reset", "at": "mid_headers"}),
            down,
        ),
        ("reset-mid-body", json!({"type": "reset", "at": "mid_body"}), down),
        (
            "cut-short",
            json!({"type": "truncate", "bytes": 40, "keep_content_length": true}),
            down,
        ),
        ("bad-chunking", json!({"type": "bad_chunking"}), down),
    ];
    // The metadata service has no TLS; a registry's two endpoints share theirs.
    if matches!(hop, Hop::Entra | Hop::Exchange) {
        rows.extend([
            ("close-tls", json!({"type": "close", "at": "tls"}), down),
            ("reset-tls", json!({"type": "reset", "at": "tls"}), down),
            (
                "certificate-expired",
                json!({"type": "tls", "defect": "expired"}),
                down,
            ),
            (
                "certificate-of-another",
                json!({"type": "tls", "defect": "wrong_name"}),
                down,
            ),
            (
                "certificate-untrusted",
                json!({"type": "tls", "defect": "untrusted"}),
                down,
            ),
            (
                "tls-too-old",
                json!({"type": "tls", "defect": "old_version"}),
                down,
            ),
        ]);
    }
    rows
}

fn silent(hop: Hop) -> Vec<Line> {
    let down = Meaning::Refused(hop.unreachable());
    let mut rows = vec![
        (
            "hang-before-headers",
            json!({"type": "hang", "at": "before_headers"}),
            down,
        ),
        (
            "hang-mid-headers",
            json!({"type": "hang", "at": "mid_headers"}),
            down,
        ),
        ("hang-mid-body", json!({"type": "hang", "at": "mid_body"}), down),
        ("trickle", json!({"type": "slow_body", "bytes_per_s": 20}), down),
        (
            "slow",
            json!({"type": "latency", "ms": 1_500, "jitter_ms": 500}),
            Meaning::Served,
        ),
        (
            "slow-body",
            json!({"type": "slow_body", "bytes_per_s": 2_000}),
            Meaning::Served,
        ),
    ];
    if matches!(hop, Hop::Entra | Hop::Exchange) {
        rows.push(("hang-tls", json!({"type": "hang", "at": "tls"}), down));
    }
    rows
}

fn odd_answers(hop: Hop) -> Vec<Line> {
    let body = |body: Value| json!({"type": "body", "body": body});
    let malformed = Meaning::Refused(Reason::UpstreamMalformed);
    vec![
        ("no-members", body(json!({"raw": "{}"})), malformed),
        ("prose", body(json!({"raw": format!("\"{CANARY}\"")})), malformed),
        ("empty", body(json!("empty")), malformed),
        ("page", body(json!("html")), malformed),
        ("huge", body(json!({"huge": 1_000_000})), malformed),
        ("byte-order-mark", body(json!("bom")), malformed),
        ("invalid-utf8", body(json!("invalid_utf8")), malformed),
        ("twice-the-members", body(json!("duplicate_keys")), malformed),
        ("deep", body(json!("deep_json")), malformed),
        ("short", json!({"type": "truncate", "bytes": 40}), malformed),
        ("gzip-bomb", json!({"type": "gzip_bomb"}), malformed),
        (
            "without-token",
            json!({"type": "json_quirk", "missing": [hop.token_member()]}),
            malformed,
        ),
        ("empty-token", json!({"type": "token", "empty": true}), malformed),
        (
            "huge-token",
            json!({"type": "token", "size_bytes": 30_000}),
            malformed,
        ),
        // Shorter than what is ever handed out, so that it would be fetched anew with each request.
        (
            "short-lived-token",
            json!({"type": "token", "ttl_s": 10}),
            malformed,
        ),
        (
            "expired-token",
            json!({"type": "token", "exp_delta_s": -200_000}),
            malformed,
        ),
        (
            "wrong-type",
            json!({"type": "content_type", "value": "text/html"}),
            Meaning::Served,
        ),
        (
            "no-type",
            json!({"type": "content_type", "value": null}),
            Meaning::Served,
        ),
        (
            "more-members",
            json!({"type": "json_quirk", "extra_fields": true}),
            Meaning::Served,
        ),
        (
            "null-members",
            json!({"type": "json_quirk", "null_fields": true}),
            Meaning::Served,
        ),
        (
            "date-10-min-ahead",
            json!({"type": "date_header", "offset_s": 600}),
            Meaning::Served,
        ),
        (
            "no-date",
            json!({"type": "date_header", "offset_s": null}),
            Meaning::Served,
        ),
    ]
}
