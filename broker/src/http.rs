//! HTTP JSON: the same calls in the proto3 JSON mapping, errors as problem+json (RFC 9457).

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use proto::{MAX_MESSAGE_BYTES, Reason, v1::GetDockerConfigRequest};
use runtime::telemetry::propagation;
use serde_json::json;
use tracing::Instrument as _;

use crate::{error::CredentialError, metrics::WireFormat, service::Service};

/// The routes.
pub fn router(service: Service) -> Router {
    Router::new()
        .route("/v1/docker-config", post(docker_config))
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
        .with_state(service)
}

async fn docker_config(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> Response {
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
        let answered = match serde_json::from_slice::<GetDockerConfigRequest>(&body) {
            Ok(message) => service.get_docker_config(WireFormat::Http, &headers, message, None).await,
            // The parser's text quotes the input, and the input holds a token.
            Err(error) => Err(CredentialError::new(
                Reason::InvalidRequest,
                format!(
                    "the body must be a GetDockerConfigRequest in the proto3 JSON mapping: line {}, column {}",
                    error.line(),
                    error.column()
                ),
            )),
        };
        match answered {
            Ok(message) => success(&message),
            Err(error) => problem(&error),
        }
    }
    .instrument(span)
    .await
}

fn success(message: &proto::v1::GetDockerConfigResponse) -> Response {
    match serde_json::to_vec(message) {
        Ok(body) => (
            StatusCode::OK,
            [
                (header::CONTENT_TYPE, "application/json"),
                (header::CACHE_CONTROL, "no-store"),
            ],
            body,
        )
            .into_response(),
        Err(_error) => problem(&CredentialError::titled(Reason::Internal)),
    }
}

fn problem(error: &CredentialError) -> Response {
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
        (header::CONTENT_TYPE, "application/problem+json"),
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
