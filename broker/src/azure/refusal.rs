//! What is kept of an answer other than 2xx: status, codes, times and ids. Never its text, which may say anything.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use runtime::retry_after::retry_after;
use serde_json::Value;

use super::transport::Endpoint;

/// The answer, reduced to what decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) status: u16,
    /// `error` (Entra, IMDS) or `errors[0].code` (registry): a word, never prose.
    pub(super) code: Option<String>,
    /// AADSTS number.
    pub(super) aadsts: Option<u32>,
    /// What only the prose told apart.
    pub(super) detail: Option<Detail>,
    /// How long to wait: as asked, or as has become of it.
    pub(super) retry_after: Option<Duration>,
    /// For Azure's support.
    pub(super) request_id: Option<String>,
}

/// Cases that have the same status and code, and different remedies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// IMDS: the identity is not assigned to this machine.
    IdentityMissing,
    /// Registry: its network rules do not admit us.
    Firewall,
    /// Registry: it could not look up what the identity may do, or found nothing.
    Permissions,
}

impl Refusal {
    /// Reads an answer. A body that is no JSON, or none of these, is as good as none.
    pub(super) fn read(
        endpoint: Endpoint,
        status: u16,
        headers: &HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Self {
        // Field by field, because one that has the wrong type should not cost the others. Entra and IMDS name one
        // `error`, registries a list of `errors`.
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (description, message) = (text("/error_description"), text("/errors/0/message"));
        Self {
            status,
            code: word(text("/error")).or_else(|| word(text("/errors/0/code"))),
            aadsts: body
                .pointer("/error_codes/0")
                .and_then(Value::as_u64)
                .and_then(|number| u32::try_from(number).ok())
                .or_else(|| aadsts_in(description)),
            detail: detail(endpoint, description, message),
            retry_after: retry_after(headers, now),
            request_id: request_id(headers)
                .or_else(|| id(text("/trace_id")))
                .or_else(|| id(text("/correlation_id")))
                .or_else(|| id_after("Trace ID:", description))
                .or_else(|| id_after("CorrelationId:", message)),
        }
    }

    /// Whether it asks for fewer requests. Entra has a code for that, whatever the status (`TenantThrottlingError`).
    pub(super) fn asks_for_fewer(&self) -> bool {
        const TENANT_THROTTLING: u32 = 90_055;
        self.status == 429 || self.aadsts == Some(TENANT_THROTTLING)
    }

    /// Whether it says that the host is not well.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self.status, 408 | 500..=599)
    }
}

fn detail(endpoint: Endpoint, description: &str, message: &str) -> Option<Detail> {
    match endpoint {
        Endpoint::Imds => description
            .contains("Identity not found")
            .then_some(Detail::IdentityMissing),
        Endpoint::Exchange | Endpoint::Token => {
            if message.contains("retrieving permissions failed") {
                Some(Detail::Permissions)
            } else if message.contains("is not allowed access") || message.contains("aka.ms/acr/firewall") {
                Some(Detail::Firewall)
            } else {
                None
            }
        }
        Endpoint::Entra => None,
    }
}

/// A code, if it is one: prose goes nowhere.
fn word(text: &str) -> Option<String> {
    let is_word = !text.is_empty()
        && text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word.then(|| text.to_owned())
}

/// `AADSTS700213: ...` where the list of codes is missing.
fn aadsts_in(description: &str) -> Option<u32> {
    let (_, rest) = description.split_once("AADSTS")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// `x-ms-request-id` (Entra, IMDS) or `x-ms-correlation-request-id` (registry), if it looks like an id.
fn request_id(headers: &HeaderMap) -> Option<String> {
    ["x-ms-request-id", "x-ms-correlation-request-id"]
        .into_iter()
        .find_map(|name| id(headers.get(name)?.to_str().ok()?))
}

/// The id that follows `label` in a text.
fn id_after(label: &str, text: &str) -> Option<String> {
    let (_, rest) = text.split_once(label)?;
    let word = rest.split_whitespace().next()?;
    id(word.trim_end_matches(['.', ',', ';', '"']))
}

/// All ids of Azure are GUIDs. Nothing else passes: prose, a token, or a secret that happens to be hexadecimal.
fn id(text: &str) -> Option<String> {
    const DIGITS: [usize; 5] = [8, 4, 4, 4, 12];
    let is_hexadecimal = |group: &str| group.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_id = text.split('-').map(str::len).eq(DIGITS) && text.split('-').all(is_hexadecimal);
    is_id.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const GUID: &str = "fe9fbfcb-e303-4bd9-8083-db2f873c3400";

    fn read(endpoint: Endpoint, headers: &HeaderMap, body: &str) -> Refusal {
        Refusal::read(endpoint, 400, headers, body.as_bytes(), UNIX_EPOCH)
    }

    #[test]
    fn refusal_finds_the_request_id_wherever_it_is() {
        let mut headers = HeaderMap::new();
        let other = "00000000-1111-2222-3333-444444444444";
        for (endpoint, body) in [
            (
                Endpoint::Entra,
                format!(r#"{{"trace_id":"{GUID}","correlation_id":"{other}"}}"#),
            ),
            (Endpoint::Entra, format!(r#"{{"correlation_id":"{GUID}"}}"#)),
            (
                Endpoint::Entra,
                format!(r#"{{"error_description":"AADSTS1: no. Trace ID: {GUID} Correlation ID: {other}"}}"#),
            ),
            (
                Endpoint::Entra,
                format!(r#"{{"error_description":"no.\r\nTrace ID: {GUID}\r\nCorrelation ID: {other}"}}"#),
            ),
            (
                Endpoint::Exchange,
                format!(r#"{{"errors":[{{"code":"UNAUTHORIZED","message":"no. CorrelationId: {GUID}"}}]}}"#),
            ),
        ] {
            let found = read(endpoint, &headers, &body);
            assert_eq!(found.request_id.as_deref(), Some(GUID), "{body}");
        }
        headers.insert("x-ms-correlation-request-id", other.parse().unwrap());
        let body = format!(r#"{{"errors":[{{"message":"CorrelationId: {GUID}"}}]}}"#);
        assert_eq!(
            read(Endpoint::Token, &headers, &body).request_id.as_deref(),
            Some(other)
        );
    }

    #[test]
    fn l3_id_that_is_none_is_dropped() {
        for body in [
            r#"{"trace_id":"canary prose"}"#,
            r#"{"trace_id":"eyJhbGciOiJSUzI1NiJ9"}"#,
            r#"{"trace_id":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}"#,
            r#"{"trace_id":"fe9fbfcb-e303-4bd9-8083-db2f873c340g"}"#,
            r#"{"trace_id":"fe9fbfcb-e303-4bd9-8083-db2f873c3400-0"}"#,
            r#"{"errors":[{"message":"CorrelationId: canary"}]}"#,
            r#"{"errors":[{"message":"CorrelationId:"}]}"#,
        ] {
            assert_eq!(
                read(Endpoint::Entra, &HeaderMap::new(), body).request_id,
                None,
                "{body}"
            );
        }
    }

    #[test]
    fn refusal_tells_the_403s_of_a_registry_apart() {
        for (message, detail) in [
            (
                "client with IP '20.1.2.3' is not allowed access. Refer https://aka.ms/acr/firewall",
                Some(Detail::Firewall),
            ),
            (
                r"client with IP \u002720.1.2.3\u0027 is not allowed access",
                Some(Detail::Firewall),
            ),
            ("retrieving permissions failed", Some(Detail::Permissions)),
            ("something new", None),
        ] {
            let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"{message}"}}]}}"#);
            assert_eq!(
                read(Endpoint::Exchange, &HeaderMap::new(), &body).detail,
                detail,
                "{message}"
            );
        }
    }
}
