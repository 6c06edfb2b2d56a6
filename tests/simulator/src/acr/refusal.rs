//! ACR's errors on the wire.

use http::{StatusCode, header};
use serde_json::{Value, json};

use super::permissions::Scope;
use crate::{Registry, answer::Answer, request::Request, scene::Scene};

/// Why a registry refuses.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    /// The network does not let the caller in.
    Firewall,
    /// Too many requests; so many seconds to wait.
    Throttled(f64),
    /// A grant it does not know, or a parameter that is missing: an empty 400.
    BadRequest,
    /// The token endpoints do not accept the credential, or the principal has no role.
    Unauthorized,
    /// The same for Basic credentials.
    UnauthorizedBasic,
    /// The principal may not do that.
    Forbidden,
    /// The registry API wants a token.
    Challenge {
        /// For this.
        scope: Option<Scope>,
        /// The one presented is no good.
        invalid_token: bool,
    },
    /// No such repository.
    NameUnknown(String),
    /// No such tag.
    ManifestUnknown(String),
}

impl Refusal {
    /// The answer in ACR's words.
    pub(super) fn answer(&self, registry: &Registry, request: &Request, scene: &Scene<'_>) -> Answer {
        let id = &scene.draw.request_id;
        match self {
            Self::Firewall => {
                let message = format!(
                    "client with IP '{}' is not allowed access. Refer https://aka.ms/acr/firewall to grant access. \
                     CorrelationId: {id}",
                    request.peer
                );
                envelope(StatusCode::FORBIDDEN, "DENIED", &message, None)
            }
            Self::Throttled(wait_s) => {
                let seconds = wait_s.ceil().max(1.0);
                Answer::json(StatusCode::TOO_MANY_REQUESTS, &throttled_body())
                    .with(header::RETRY_AFTER, &seconds.to_string())
            }
            Self::BadRequest => Answer::empty(StatusCode::BAD_REQUEST),
            Self::Unauthorized => unauthorized(&format!("{UNAUTHORIZED} CorrelationId: {id}"), None),
            Self::UnauthorizedBasic => {
                let realm = format!("Basic realm=\"https://{}/oauth2/token\"", registry.host);
                unauthorized(&format!("{UNAUTHORIZED} CorrelationId: {id}"), None)
                    .with(header::WWW_AUTHENTICATE, &realm)
            }
            Self::Forbidden => envelope(
                StatusCode::FORBIDDEN,
                "DENIED",
                "retrieving permissions failed",
                None,
            ),
            Self::Challenge { scope, invalid_token } => {
                challenge(scope.as_ref(), *invalid_token, registry, request)
            }
            Self::NameUnknown(name) => {
                let detail = json!({"name": name});
                envelope(
                    StatusCode::NOT_FOUND,
                    "NAME_UNKNOWN",
                    "repository name not known to registry",
                    Some(detail),
                )
            }
            Self::ManifestUnknown(tag) => {
                let message = format!("manifest tagged by \"{tag}\" is not found");
                envelope(
                    StatusCode::NOT_FOUND,
                    "MANIFEST_UNKNOWN",
                    &message,
                    Some(json!({"Tag": tag})),
                )
            }
        }
    }
}

const UNAUTHORIZED: &str =
    "authentication required, visit https://aka.ms/acr/authorization for more information.";

/// The body of a 429.
pub(crate) fn throttled_body() -> Value {
    let message = "Too many requests. Please visit https://aka.ms/acr/skus#sku-feature-matrix";
    json!({"errors": [{"code": "TOOMANYREQUESTS", "message": message}]})
}

fn challenge(scope: Option<&Scope>, invalid_token: bool, registry: &Registry, request: &Request) -> Answer {
    // Clients come back to the host and port that they asked.
    let realm = format!("https://{}/oauth2/token", request.authority);
    let mut value = format!(
        "Bearer realm=\"{realm}\",service=\"{}\"",
        registry.service(&request.host)
    );
    let mut detail = None;
    if let Some(scope) = scope {
        value = format!("{value},scope=\"{scope}\"");
        let actions = scope.actions.join(",");
        detail = Some(json!([{"Type": scope.kind, "Name": scope.name, "Action": actions}]));
    }
    if invalid_token {
        value = format!("{value},error=\"invalid_token\"");
    }
    unauthorized(UNAUTHORIZED, detail)
        .with(header::WWW_AUTHENTICATE, &value)
        .with(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "Docker-Content-Digest, WWW-Authenticate, Link, X-Ms-Correlation-Request-Id",
        )
        .with(
            http::HeaderName::from_static("docker-distribution-api-version"),
            "registry/2.0",
        )
}

fn unauthorized(message: &str, detail: Option<Value>) -> Answer {
    envelope(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message, detail)
}

fn envelope(status: StatusCode, code: &str, message: &str, detail: Option<Value>) -> Answer {
    // Absent and null are not the same to clients.
    let error = match detail {
        Some(detail) => json!({"code": code, "message": message, "detail": detail}),
        None => json!({"code": code, "message": message}),
    };
    Answer::json(status, &json!({"errors": [error]}))
}
