//! A registry's token endpoints. There is no SDK for these: two form posts.
//!
//! Answers hold a token and nothing else, so what there is to know is read from the token's own [`claims`].

mod claims;

use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, Request, header::CONTENT_TYPE};
use proto::types::{RegistryHost, ScopeSet};
use runtime::{Secret, never_shown};
use serde::Deserialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::{
    Attempt, Issued, classify,
    gate::PauseScope,
    transport::{Endpoint, TransportError},
    upstream::{Call, Upstream, UpstreamError},
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

never_shown!(RefreshTokenAnswer, AccessTokenAnswer);

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
    let explain = explain_with(classify::exchange, host);
    let call = Call {
        endpoint: Endpoint::Exchange,
        host: host.as_str(),
        scope: PauseScope::Host,
        attempt,
        request: post(host, "exchange", &form).map_err(|error| explain(&error))?,
        explain: &explain,
    };
    upstream
        .send(call, |received| {
            let answer: RefreshTokenAnswer = parse(&received.body)?;
            issued(answer.refresh_token, host, now, received.skew)
        })
        .await
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
    let explain = explain_with(classify::token, host);
    let call = Call {
        endpoint: Endpoint::Token,
        host: host.as_str(),
        scope: PauseScope::Host,
        attempt,
        request: post(host, "token", &form).map_err(|error| explain(&error))?,
        explain: &explain,
    };
    upstream
        .send(call, |received| {
            let answer: AccessTokenAnswer = parse(&received.body)?;
            let issued = issued(answer.access_token, host, now, received.skew)?;
            let granted = granted(&issued.token, scopes)?;
            Ok((issued, granted))
        })
        .await
}

fn explain_with(
    classify: fn(&UpstreamError, &RegistryHost) -> CredentialError,
    host: &RegistryHost,
) -> impl Fn(&UpstreamError) -> CredentialError + Send + Sync + 'static {
    let host = host.clone();
    move |error| classify(error, &host)
}

fn post(host: &RegistryHost, path: &str, form: &[(&str, &str)]) -> Result<Request<Bytes>, UpstreamError> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("https://{host}/oauth2/{path}"))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        // Holds a token: wiped when the last part of the stack has let go of it.
        .body(Bytes::from_owner(form_body(form)))
        .map_err(|_error| UpstreamError::Transport(TransportError::Request))
}

/// In memory that is as large as it can get from the start: growing would leave parts of a token behind.
fn form_body(form: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    /// `%XX`.
    const LONGEST_ESCAPE: usize = 3;
    /// `=` and `&`.
    const SIGNS: usize = 2;
    let most: usize = form
        .iter()
        .map(|(name, value)| LONGEST_ESCAPE * (name.len() + value.len()) + SIGNS)
        .sum();
    let body = form_urlencoded::Serializer::new(String::with_capacity(most))
        .extend_pairs(form)
        .finish();
    Zeroizing::new(body.into_bytes())
}

fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, UpstreamError> {
    serde_json::from_slice(body).map_err(|_error| UpstreamError::Malformed("holds no token"))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e1_request_goes_to_exactly_the_host_that_was_asked_for() {
        for text in [
            "example.azurecr.io",
            "Example.EastUS.geo.azurecr.io",
            "e-1.azurecr.airgap.example",
        ] {
            let host: RegistryHost = text.parse().unwrap();
            let request = post(&host, "exchange", &[("service", host.as_str())])
                .ok()
                .unwrap();
            assert_eq!(
                request.uri().to_string(),
                format!("https://{}/oauth2/exchange", text.to_ascii_lowercase())
            );
            assert_eq!(request.uri().authority().unwrap().as_str(), host.as_str());
            assert_eq!(request.body(), &format!("service={host}"));
        }
    }

    #[test]
    fn l2_form_is_written_into_memory_that_never_moves() {
        let value = "%".repeat(5000);
        let body = form_body(&[("access_token", "t"), ("refresh_token", &value)]);
        assert_eq!(
            body.len(),
            "access_token=t&refresh_token=".len() + 3 * value.len()
        );
        assert_eq!(
            body.capacity(),
            3 * ("access_token".len() + 1 + "refresh_token".len() + 5000) + 4
        );
    }
}
