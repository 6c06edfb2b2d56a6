//! A registry's token endpoints. There is no SDK for these: two form posts.
//!
//! Answers hold a token and nothing else, so what there is to know is read from the token's own [`claims`].

mod claims;

use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, Request, header::CONTENT_TYPE};
use proto::types::{RegistryHost, ScopeSet};
use runtime::Secret;
use serde::Deserialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::{
    Attempt, Issued, classify,
    gate::PauseScope,
    transport::{Endpoint, TransportError},
    upstream::{Call, Received, Upstream, UpstreamError},
};
use crate::error::CredentialError;
use claims::{granted, issued};

#[derive(Deserialize)]
struct RefreshTokenAnswer {
    refresh_token: Secret,
}

#[derive(Deserialize)]
struct AccessTokenAnswer {
    access_token: Secret,
}

pub(super) async fn refresh_token(
    upstream: &Upstream,
    host: &RegistryHost,
    entra_token: &Secret,
    attempt: &Attempt,
    now: SystemTime,
) -> Result<Issued, CredentialError> {
    let form = [
        ("grant_type", "access_token"),
        ("service", host.as_str()),
        ("access_token", entra_token.expose()),
    ];
    post(upstream, Endpoint::Exchange, host, &form, attempt)
        .await
        .and_then(|received| {
            let answer: RefreshTokenAnswer = parse(&received.body)?;
            issued(answer.refresh_token, host, now, received.clock_ahead)
        })
        .map_err(|error| classify::exchange(&error, host))
}

pub(super) async fn access_token(
    upstream: &Upstream,
    host: &RegistryHost,
    refresh_token: &Secret,
    scopes: &ScopeSet,
    attempt: &Attempt,
    now: SystemTime,
) -> Result<(Issued, ScopeSet), CredentialError> {
    // One field with spaces, as the Docker clients send it.
    let scope = scopes.to_field();
    let form = [
        ("grant_type", "refresh_token"),
        ("service", host.as_str()),
        ("scope", scope.as_str()),
        ("refresh_token", refresh_token.expose()),
    ];
    post(upstream, Endpoint::Token, host, &form, attempt)
        .await
        .and_then(|received| {
            let answer: AccessTokenAnswer = parse(&received.body)?;
            let issued = issued(answer.access_token, host, now, received.clock_ahead)?;
            let granted = granted(&issued.token, scopes)?;
            Ok((issued, granted))
        })
        .map_err(|error| classify::token(&error, host))
}

async fn post(
    upstream: &Upstream,
    endpoint: Endpoint,
    host: &RegistryHost,
    form: &[(&str, &str)],
    attempt: &Attempt,
) -> Result<Received, UpstreamError> {
    let path = match endpoint {
        Endpoint::Exchange => "exchange",
        Endpoint::Token | Endpoint::Entra | Endpoint::Imds => "token",
    };
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("https://{host}/oauth2/{path}"))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        // Holds a token: wiped when the last part of the stack has let go of it.
        .body(Bytes::from_owner(Zeroizing::new(body.into_bytes())))
        .map_err(|_error| UpstreamError::Transport(TransportError::Request))?;
    let call = Call {
        endpoint,
        host: host.as_str(),
        scope: PauseScope::Host,
        attempt,
        request,
    };
    upstream.send(call).await
}

fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, UpstreamError> {
    serde_json::from_slice(body).map_err(|_error| UpstreamError::Malformed("holds no token"))
}

#[cfg(test)]
mod fuzz;
