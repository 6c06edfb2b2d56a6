//! Errors over HTTP: problem+json (RFC 9457). What a caller did wrong on the level of HTTP itself, such as a path that
//! does not exist, has no reason of the catalogue and the type `about:blank`.

use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use runtime::telemetry::propagation;
use serde_json::{Value, json};

use crate::error::CredentialError;

/// RFC 9457 section 6.1.
const PROBLEM_JSON: &str = "application/problem+json";

/// The answer to a request that was refused or failed.
pub fn of(error: &CredentialError) -> Response {
    let status =
        StatusCode::from_u16(error.reason.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let retry_after_seconds = error.retry_after.map(|wait| wait.as_secs().max(1));
    let mut response = answer(
        status,
        &json!({
            "type": error.reason.help_url(),
            "title": error.reason.title(),
            "status": status.as_u16(),
            "detail": error.message,
            "reason": error.reason.as_wire(),
            "retryAfterSeconds": retry_after_seconds,
            "traceId": propagation::current_trace_id(),
            "azureRequestId": error.azure_request_id,
        }),
    );
    let headers = response.headers_mut();
    if let Some(seconds) = retry_after_seconds {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A path that is not in the table. It is not repeated: it may be a token that got into the wrong place.
pub fn not_found() -> Response {
    blank(
        StatusCode::NOT_FOUND,
        "no such path",
        "GET /openapi.json lists all paths",
    )
}

/// A method that its path does not take; the caller of this adds `Allow`.
pub fn wrong_method(request: &Request) -> Response {
    blank(
        StatusCode::METHOD_NOT_ALLOWED,
        "the path does not take this method",
        request.uri().path(),
    )
}

/// A body of another kind than the one that is taken.
pub fn media_type(request: &Request, taken: &'static str) -> Response {
    let mut response = blank(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        &format!("the content type must be {taken}"),
        request.uri().path(),
    );
    // RFC 9110 section 15.5.16.
    response
        .headers_mut()
        .insert(header::ACCEPT, HeaderValue::from_static(taken));
    response
}

fn blank(status: StatusCode, title: &str, detail: &str) -> Response {
    answer(
        status,
        &json!({
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
        }),
    )
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, PROBLEM_JSON),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body.to_string()).into_response()
}
