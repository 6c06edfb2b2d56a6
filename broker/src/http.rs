//! HTTP JSON: the same calls in the proto3 JSON mapping, errors as problem+json (RFC 9457).

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::post,
};
use proto::{
    MAX_MESSAGE_BYTES, Reason,
    v1::{GetDockerConfigRequest, GetDockerConfigResponse},
};
use runtime::telemetry::propagation;
use serde_json::{Value, json};
use tonic::Status;
use tracing::Instrument as _;

use crate::{error::CredentialError, metrics::WireFormat, service::Service};

/// RFC 9457 section 6.1.
const PROBLEM_JSON: &str = "application/problem+json";

/// Answers for whatever no route and no service takes, in the form that the caller speaks.
pub fn with_fallback(router: Router) -> Router {
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
}

/// The routes.
pub fn router(service: Service) -> Router {
    Router::new()
        .route("/v1/docker-config", post(docker_config))
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
        .with_state(service)
}

async fn docker_config(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let span = tracing::info_span!(
        "POST /v1/docker-config",
        otel.kind = "server",
        http.request.method = "POST",
        http.route = "/v1/docker-config",
        acrpull.cluster = tracing::field::Empty,
        acrpull.binding.namespace = tracing::field::Empty,
        acrpull.binding.name = tracing::field::Empty,
        acrpull.registry.server = tracing::field::Empty,
        acrpull.policy.rule = tracing::field::Empty,
    );
    propagation::continue_trace(&span, &headers);
    async {
        let message = body
            .map_err(|error| invalid(error.body_text()))
            .and_then(|body| decode(&body));
        let answered = service
            .get_docker_config(WireFormat::Http, &headers, message, None)
            .await;
        match answered {
            Ok(message) => success(&message),
            Err(error) => problem(&error),
        }
    }
    .instrument(span)
    .await
}

fn decode(body: &[u8]) -> Result<GetDockerConfigRequest, CredentialError> {
    serde_json::from_slice(body).map_err(|error| {
        // The parser's text quotes the input, and the input holds a token.
        let (line, column) = (error.line(), error.column());
        invalid(format!(
            "the body must be a GetDockerConfigRequest in the proto3 JSON mapping: line {line}, column {column}"
        ))
    })
}

fn invalid(message: String) -> CredentialError {
    CredentialError::new(Reason::InvalidRequest, message)
}

fn success(message: &GetDockerConfigResponse) -> Response {
    let Ok(mut body) = serde_json::to_value(message) else {
        return problem(&CredentialError::titled(Reason::Internal));
    };
    // The mapping writes times with `Z`; the library that encodes them writes the equivalent `+00:00`.
    for field in ["expireTime", "refreshTime"] {
        if let Some(Value::String(time)) = body.get_mut(field)
            && let Some(local) = time.strip_suffix("+00:00")
        {
            *time = format!("{local}Z");
        }
    }
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (StatusCode::OK, headers, body.to_string()).into_response()
}

/// A path that is not in the table.
async fn unknown_path(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let is_grpc = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return Status::unimplemented("no such method").into_http::<Body>();
    }
    not_routed(StatusCode::NOT_FOUND, "no such path", &method, &uri)
}

/// A method that its path does not take; the router adds `Allow`.
async fn wrong_method(method: Method, uri: Uri) -> Response {
    not_routed(
        StatusCode::METHOD_NOT_ALLOWED,
        "the path does not take this method",
        &method,
        &uri,
    )
}

fn not_routed(status: StatusCode, title: &str, method: &Method, uri: &Uri) -> Response {
    let body = json!({
        "type": "about:blank",
        "title": title,
        "status": status.as_u16(),
        "detail": format!("{method} {}", uri.path()),
    });
    (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body.to_string()).into_response()
}

pub(crate) fn problem(error: &CredentialError) -> Response {
    let status =
        StatusCode::from_u16(error.reason.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let retry_after_seconds = error.retry_after.map(|wait| wait.as_secs().max(1));
    let body = json!({
        "type": error.reason.help_url(),
        "title": error.reason.title(),
        "status": status.as_u16(),
        "detail": error.message,
        "reason": error.reason.as_wire(),
        "retryAfterSeconds": retry_after_seconds,
        "traceId": propagation::current_trace_id(),
        "azureRequestId": error.azure_request_id,
    });
    let headers = [
        (header::CONTENT_TYPE, PROBLEM_JSON),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut response = (status, headers, body.to_string()).into_response();
    if let Some(seconds) = retry_after_seconds {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
