//! A registry's token endpoints. There is no SDK for these: two form posts.
//!
//! Answers hold a token and nothing else, so its expiry is read from its own `exp`. The signature is not ours to check:
//! the keys are the registry's, and it is the registry that will judge the token.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::dangerous::insecure_decode_claims;
use proto::types::{RegistryHost, Scope, ScopeSet};
use runtime::Secret;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    Issued, classify,
    upstream::{Endpoint, Upstream, UpstreamError},
};
use crate::error::CredentialError;

/// A registry's tokens live 1 to 3 hours; one that claims more than a day is not believed (guarantee E3).
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Together with the rest of the payload this stays under the 64 KiB of a message.
const MAX_TOKEN_BYTES: usize = 20 * 1024;

#[derive(Deserialize)]
struct RefreshTokenAnswer {
    refresh_token: Secret,
}

#[derive(Deserialize)]
struct AccessTokenAnswer {
    access_token: Secret,
}

#[derive(Deserialize)]
struct ExpiryClaim {
    exp: u64,
}

#[derive(Deserialize)]
struct AccessClaim {
    access: Option<Vec<Access>>,
}

/// One entry of the `access` claim (Docker token authentication specification).
#[derive(Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(default)]
    actions: BTreeSet<String>,
}

pub(super) async fn refresh_token(
    upstream: &Upstream,
    host: &RegistryHost,
    entra_token: &Secret,
    now: SystemTime,
) -> Result<Issued, CredentialError> {
    let form = [
        ("grant_type", "access_token"),
        ("service", host.as_str()),
        ("access_token", entra_token.expose()),
    ];
    post(upstream, Endpoint::Exchange, host, "oauth2/exchange", &form)
        .await
        .and_then(|body| {
            let answer: RefreshTokenAnswer = parse(&body)?;
            issued(answer.refresh_token, now)
        })
        .map_err(|error| classify::exchange(&error, host))
}

pub(super) async fn access_token(
    upstream: &Upstream,
    host: &RegistryHost,
    refresh_token: &Secret,
    scopes: &ScopeSet,
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
    post(upstream, Endpoint::Token, host, "oauth2/token", &form)
        .await
        .and_then(|body| {
            let answer: AccessTokenAnswer = parse(&body)?;
            let issued = issued(answer.access_token, now)?;
            let granted = granted(&issued.token, scopes)?;
            Ok((issued, granted))
        })
        .map_err(|error| classify::token(&error, host))
}

async fn post(
    upstream: &Upstream,
    endpoint: Endpoint,
    host: &RegistryHost,
    path: &str,
    form: &[(&str, &str)],
) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
    let request = upstream
        .client(endpoint)
        .post(format!("https://{host}/{path}"))
        .form(form);
    upstream.send(endpoint, host.as_str(), request).await
}

fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, UpstreamError> {
    serde_json::from_slice(body).map_err(|_error| UpstreamError::Malformed("holds no token"))
}

fn issued(token: Secret, now: SystemTime) -> Result<Issued, UpstreamError> {
    if token.expose().len() > MAX_TOKEN_BYTES {
        return Err(UpstreamError::Malformed("holds a token of more than 20 KiB"));
    }
    let claims: ExpiryClaim = insecure_decode_claims(token.expose())
        .map_err(|_error| UpstreamError::Malformed("holds a token without an expiry"))?;
    let expires_at = UNIX_EPOCH
        .checked_add(Duration::from_secs(claims.exp))
        .ok_or(UpstreamError::Malformed("holds a token without an expiry"))?;
    match expires_at.duration_since(now) {
        Ok(Duration::ZERO) => Err(UpstreamError::Malformed("holds a token that expires at once")),
        Ok(lifetime) if lifetime <= MAX_LIFETIME => Ok(Issued { token, expires_at }),
        Ok(_too_long) => Err(UpstreamError::Malformed(
            "holds a token that lives longer than a day",
        )),
        Err(_past) => Err(UpstreamError::Malformed("holds a token that has expired already")),
    }
}

/// What the token grants, by its own `access` claim: a registry may grant less than was asked for.
fn granted(token: &Secret, asked: &ScopeSet) -> Result<ScopeSet, UpstreamError> {
    let claims: AccessClaim = insecure_decode_claims(token.expose())
        .map_err(|_error| UpstreamError::Malformed("holds a token whose access cannot be read"))?;
    // A token that does not say is judged by the registry alone.
    let Some(access) = claims.access else {
        return Ok(asked.clone());
    };
    Ok(access
        .into_iter()
        .filter(|entry| !entry.actions.is_empty())
        .map(|entry| Scope {
            kind: entry.kind,
            name: entry.name,
            actions: entry.actions,
        })
        // It ends up in the status of objects: scopes may, other words of a server may not.
        .filter(|scope| scope.to_string().parse().as_ref() == Ok(scope))
        .collect())
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    fn token(claims: &str) -> String {
        format!(
            "{}.{}.c2ln",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#),
            URL_SAFE_NO_PAD.encode(claims)
        )
    }

    #[test]
    fn registry_token_expires_by_its_own_exp() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let issued = issued(token(r#"{"exp":1004500,"iat":1,"nbf":1}"#).into(), now)
            .ok()
            .unwrap();
        assert_eq!(issued.expires_at, now + Duration::from_secs(4500));
    }

    #[test]
    fn registry_token_without_a_believable_exp_is_refused() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for text in [
            String::new(),
            "opaque".to_owned(),
            token("{}"),
            token(r#"{"exp":"soon"}"#),
            token(r#"{"exp":999999}"#),
            token(r#"{"exp":1090000}"#),
            token(r#"{"exp":18446744073709551615}"#),
            "x".repeat(MAX_TOKEN_BYTES + 1),
        ] {
            assert!(
                matches!(issued(text.clone().into(), now), Err(UpstreamError::Malformed(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn registry_grant_is_what_the_token_says() {
        let asked = ScopeSet::from_field("repository:a:pull,push repository:b:pull").unwrap();
        let access = r#"{"access":[{"type":"repository","name":"a","actions":["pull"]},{"type":"repository","name":"b","actions":[]}]}"#;
        let read = |claims| granted(&token(claims).into(), &asked).unwrap().to_field();
        assert_eq!(read(access), "repository:a:pull");
        assert_eq!(read(r#"{"access":[]}"#), "");
        assert_eq!(read("{}"), asked.to_field());
    }
}
