//! Entra's errors on the wire.

use http::{StatusCode, header};
use jiff::Timestamp;
use serde_json::json;

use crate::{Cloud, answer::Answer, scene::Scene};

/// Why Entra refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    code: u32,
    error: &'static str,
    text: String,
}

impl Refusal {
    pub(super) fn new(code: u32, error: &'static str, text: impl Into<String>) -> Self {
        Self {
            code,
            error,
            text: text.into(),
        }
    }

    /// A parameter of the form is missing.
    pub(super) fn missing(parameter: &str) -> Self {
        let text = format!("The request body must contain the following parameter: '{parameter}'.");
        Self::new(900_144, "invalid_request", text)
    }

    /// No federated credential fits `what` of the assertion.
    pub(super) fn no_federated_credential(code: u32, what: &str, value: &str) -> Self {
        let text = format!(
            "No matching federated identity record found for presented assertion {what} '{value}'. Check your federated \
             identity credential Subject, Audience and Issuer against the presented assertion. \
             https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
        );
        Self::new(code, "invalid_client", text)
    }

    /// The answer, in the manner of the cloud.
    pub(super) fn answer(&self, cloud: Option<&Cloud>, scene: &Scene<'_>) -> Answer {
        let code = self.code;
        let status = cloud
            .and_then(|cloud| cloud.error_status.get(&code))
            .and_then(|status| StatusCode::from_u16(*status).ok())
            .unwrap_or_else(|| self.usual_status());
        let separator = if cloud.is_some_and(|cloud| cloud.legacy_crlf_errors) {
            "\r\n"
        } else {
            " "
        };
        let (trace, correlation) = (&scene.draw.request_id, &scene.draw.token_id);
        let timestamp = timestamp(scene.now);
        let trailer = [
            format!("Trace ID: {trace}"),
            format!("Correlation ID: {correlation}"),
            format!("Timestamp: {timestamp}"),
        ];
        let description = format!(
            "AADSTS{code}: {}{separator}{}",
            self.text,
            trailer.join(separator)
        );
        let authority = cloud.map_or("login.microsoftonline.com", |cloud| &cloud.authority);
        let body = json!({
            "error": self.error,
            "error_description": description,
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://{authority}/error?code={code}"),
        });
        Answer::json(status, &body).with(header::CACHE_CONTROL, "no-store, no-cache")
    }

    /// Statuses that were observed or are documented; those of 700211, 700212, 700024, 700027 and 50166 are
    /// assumed.
    fn usual_status(&self) -> StatusCode {
        match self.error {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// `2026-02-08 00:24:38Z`.
fn timestamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
