//! Refusals as Entra, IMDS and registries may write them: words, numbers and ids get through, prose does not.

use std::time::UNIX_EPOCH;

use hostile::{document, fuzz, text};
use http::{HeaderMap, HeaderName};
use proto::types::RegistryHost;
use runtime::retry_after::LONGEST;

use super::{tests::presented, *};
use crate::azure::transport::Endpoint;

/// Prose of an upstream server.
const CANARY: &str = "canary";
const BODIES: [&str; 4] = [
    r#"{"error":"invalid_client","error_description":"AADSTS700213: canary\r\nTrace ID: canary","error_codes":[700213],"trace_id":"1b461305-28be-5271-beda-bd9fd2e24251"}"#,
    r#"{"error":"invalid_request","error_description":"Identity not found canary"}"#,
    r#"{"errors":[{"code":"UNAUTHORIZED","message":"canary CorrelationId: 1b461305-28be-5271-beda-bd9fd2e24251","detail":["canary"]}]}"#,
    r#"{"errors":[{"code":"DENIED","message":"client with IP 1.2.3.4 is not allowed access, canary"}]}"#,
];
const HEADERS: [&str; 4] = [
    "120",
    "Wed, 21 Oct 2026 07:28:00 GMT",
    "1b461305-28be-5271-beda-bd9fd2e24251",
    "canary canary",
];
const STATUSES: [u16; 12] = [300, 400, 401, 403, 404, 408, 409, 410, 429, 500, 503, 599];

fn header(name: &'static str, text: &str, headers: &mut HeaderMap) {
    if let Ok(value) = text.parse() {
        headers.insert(HeaderName::from_static(name), value);
    }
}

#[test]
fn fuzz_refusal_l3_passes_no_prose_through() {
    let status = proptest::sample::select(STATUSES.to_vec());
    let input = (status, document(&BODIES), text(&HEADERS), text(&HEADERS));
    let host: RegistryHost = "example.azurecr.io".parse().unwrap();
    fuzz(input, |(status, body, wait, id)| {
        let mut headers = HeaderMap::new();
        header("retry-after", &wait, &mut headers);
        header("x-ms-request-id", &id, &mut headers);
        for endpoint in [
            Endpoint::Entra,
            Endpoint::Imds,
            Endpoint::Exchange,
            Endpoint::Token,
        ] {
            let refusal = Refusal::read(endpoint, status, &headers, body.as_bytes(), UNIX_EPOCH);
            assert!(refusal.retry_after.is_none_or(|wait| wait <= LONGEST));
            let error = UpstreamError::Refused(refusal);
            let error = match endpoint {
                Endpoint::Entra => entra(&error, &presented()),
                Endpoint::Imds => imds(&error, "identity web"),
                Endpoint::Exchange => exchange(&error, &host),
                Endpoint::Token => token(&error, &host),
            };
            let id = error.azure_request_id.as_deref().unwrap_or_default();
            assert!(
                id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'),
                "{id:?}"
            );
            assert!(!error.message.contains(CANARY), "{}", error.message);
            assert!(
                error.message.len() < 400 && !error.message.contains(char::is_control),
                "{:?}",
                error.message
            );
        }
    });
}
