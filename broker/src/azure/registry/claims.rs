//! What a registry's token says of itself: until when, for whom, for what.
//!
//! Its signature is not ours to check: the keys are the registry's, and it is the registry that will judge the token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::dangerous::insecure_decode_claims;
use proto::types::{RegistryHost, Scope, ScopeSet};
use runtime::Secret;
use serde::Deserialize;

use crate::{
    azure::{Issued, skew::Skew, token_text, upstream::UpstreamError},
    expiry::FLOOR,
};

/// A registry's tokens live 1 to 3 hours; one that claims more than a day is not believed (guarantee E3).
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// What every token of a registry says.
#[derive(Deserialize)]
struct Claims {
    exp: u64,
    aud: Option<Audience>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
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
    actions: Vec<String>,
}

/// Takes a token for `host` that is one, and says until when it is good. Its `exp` is a time by the registry's clock; where
/// that is ahead of ours, it comes sooner.
pub(super) fn issued(
    token: Secret,
    host: &RegistryHost,
    now: SystemTime,
    skew: Skew,
) -> Result<Issued, UpstreamError> {
    token_text::check(&token).map_err(UpstreamError::Malformed)?;
    let claims: Claims = insecure_decode_claims(token.expose())
        .map_err(|_error| UpstreamError::Malformed("holds a token without an expiry"))?;
    let is_for_host = match &claims.aud {
        None => true,
        Some(Audience::One(audience)) => names(host, audience),
        Some(Audience::Many(audiences)) => audiences.iter().any(|audience| names(host, audience)),
    };
    if !is_for_host {
        return Err(UpstreamError::Malformed("holds a token for another registry"));
    }
    let expires_at = UNIX_EPOCH
        .checked_add(Duration::from_secs(claims.exp))
        .ok_or(UpstreamError::Malformed("holds a token without an expiry"))?;
    // Nobody issues a token that is as good as dead by the issuer's own clock: then the header is wrong and not our clock.
    let expires_at = expires_at
        .checked_sub(skew.ahead())
        .filter(|sooner| sooner.duration_since(now).is_ok_and(|left| left >= FLOOR))
        .unwrap_or(expires_at);
    // What is wrong with our own clock is not the registry's fault, and setting it is somebody else's task.
    let is_dead_by_our_clock_only =
        |expires_at: SystemTime| !skew.behind().is_zero() && expires_at + skew.behind() > now;
    match expires_at.duration_since(now) {
        Ok(Duration::ZERO) => Err(UpstreamError::Malformed("holds a token that expires at once")),
        Ok(lifetime) if lifetime <= MAX_LIFETIME => Ok(Issued { token, expires_at }),
        Ok(_too_long) => Err(UpstreamError::Malformed(
            "holds a token that lives longer than a day",
        )),
        Err(_past) if is_dead_by_our_clock_only(expires_at) => Err(UpstreamError::Malformed(
            "holds a token that has expired by the broker's clock, which is ahead of the registry's",
        )),
        Err(_past) => Err(UpstreamError::Malformed("holds a token that has expired already")),
    }
}

/// Whether an audience means the registry. A regional endpoint, `name.<region>.geo.<domain>`, may answer with its own
/// name or with the registry's global one, `name.<domain>`: which of them is not documented.
fn names(host: &RegistryHost, audience: &str) -> bool {
    let global = host.as_str().split_once(".geo.").and_then(|(head, domain)| {
        let (name, region) = head.split_once('.')?;
        (!region.contains('.')).then(|| format!("{name}.{domain}"))
    });
    audience.eq_ignore_ascii_case(host.as_str())
        || global.is_some_and(|global| audience.eq_ignore_ascii_case(&global))
}

/// What the token grants, by its own `access` claim: a registry may grant less than was asked for. One that grants anything
/// on something else is not the token that was asked for (guarantee E3).
pub(super) fn granted(token: &Secret, asked: &ScopeSet) -> Result<ScopeSet, UpstreamError> {
    let claims: AccessClaim = insecure_decode_claims(token.expose())
        .map_err(|_error| UpstreamError::Malformed("holds a token whose access cannot be read"))?;
    // A token that does not say is judged by the registry alone.
    let Some(access) = claims.access else {
        return Ok(asked.clone());
    };
    let is_asked = |access: &Access| {
        asked
            .iter()
            .any(|scope| scope.kind == access.kind && scope.name == access.name)
    };
    if access
        .iter()
        .any(|access| !access.actions.is_empty() && !is_asked(access))
    {
        return Err(UpstreamError::Malformed(
            "holds a token for something that was not asked for",
        ));
    }
    // Read by the grammar of scopes: what is none, such as one without an action, grants nothing and gets no further.
    Ok(access
        .into_iter()
        .filter_map(|Access { kind, name, actions }| {
            format!("{kind}:{name}:{}", actions.join(","))
                .parse::<Scope>()
                .ok()
        })
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

    fn host() -> RegistryHost {
        "example.azurecr.io".parse().unwrap()
    }

    #[test]
    fn s7_registry_whose_clock_is_ahead_shortens_the_life_unless_its_date_makes_no_sense() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (ahead_s, left_s) in [(0, 4500), (3600, 900), (4500, 4500), (86_400, 4500)] {
            let token = token(r#"{"exp":1004500}"#).into();
            let issued = issued(token, &host(), now, Skew(f64::from(ahead_s)))
                .ok()
                .unwrap();
            assert_eq!(issued.expires_at, now + Duration::from_secs(left_s));
        }
    }

    #[test]
    fn registry_token_expires_by_its_own_exp() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let issued = issued(
            token(r#"{"exp":1004500,"iat":1,"nbf":1}"#).into(),
            &host(),
            now,
            Skew::default(),
        )
        .ok()
        .unwrap();
        assert_eq!(issued.expires_at, now + Duration::from_secs(4500));
    }

    #[test]
    fn s7_registry_token_ends_by_the_clock_of_the_registry_if_that_makes_sense() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (ahead_s, lives_s) in [(3600, 900), (4440, 60), (4441, 4500), (86_400 * 365, 4500)] {
            let token = token(r#"{"exp":1004500}"#);
            let issued = issued(token.into(), &host(), now, Skew(f64::from(ahead_s)));
            assert_eq!(
                issued.ok().unwrap().expires_at,
                now + Duration::from_secs(lives_s),
                "{ahead_s}"
            );
        }
    }

    #[test]
    fn e3_registry_token_without_a_believable_exp_is_refused() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for text in [
            String::new(),
            "opaque".to_owned(),
            token("{}"),
            token(r#"{"exp":"soon"}"#),
            token(r#"{"exp":999999}"#),
            token(r#"{"exp":1090000}"#),
            token(r#"{"exp":18446744073709551615}"#),
        ] {
            assert!(
                matches!(
                    issued(text.clone().into(), &host(), now, Skew::default()),
                    Err(UpstreamError::Malformed(_))
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn s7_token_that_is_dead_by_our_clock_only_says_so() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let (ours, theirs) = (
            "holds a token that has expired by the broker's clock, which is ahead of the registry's",
            "holds a token that has expired already",
        );
        for (exp, skew_s, text) in [
            (999_000, -7200.0, ours),
            (999_000, -900.0, theirs),
            (999_999, -60.0, theirs),
            (999_000, 0.0, theirs),
        ] {
            let token = token(&format!(r#"{{"exp":{exp}}}"#)).into();
            let refused = issued(token, &host(), now, Skew(skew_s)).err();
            assert_eq!(refused, Some(UpstreamError::Malformed(text)), "{exp} {skew_s}");
        }
    }

    #[test]
    fn e3_registry_token_for_another_registry_is_refused() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (host, aud, is_fine) in [
            ("example.azurecr.io", r#""example.azurecr.io""#, true),
            ("example.azurecr.io", r#"["other", "EXAMPLE.azurecr.io"]"#, true),
            ("example.azurecr.io", "null", true),
            ("example.azurecr.io", r#""other.azurecr.io""#, false),
            ("example.azurecr.io", "[]", false),
            ("example.azurecr.io", "7", false),
            (
                "example.weu.geo.azurecr.io",
                r#""example.weu.geo.azurecr.io""#,
                true,
            ),
            ("example.weu.geo.azurecr.io", r#""example.azurecr.io""#, true),
            ("example.weu.geo.azurecr.io", r#""other.azurecr.io""#, false),
            ("example.azurecr.io", r#""example.weu.geo.azurecr.io""#, false),
        ] {
            let token = token(&format!(r#"{{"exp":1004500,"aud":{aud}}}"#));
            let issued = issued(token.into(), &host.parse().unwrap(), now, Skew::default());
            assert_eq!(issued.is_ok(), is_fine, "{host} {aud}");
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
        let prose = r#"{"access":[{"type":"repository","name":"a","actions":["pull"]},{"type":"some prose","name":"a b","actions":[]}]}"#;
        assert_eq!(read(prose), "repository:a:pull");
        let other_actions = r#"{"access":[{"type":"repository","name":"a","actions":["pull","delete"]}]}"#;
        assert_eq!(read(other_actions), "repository:a:delete,pull");
    }

    #[test]
    fn e3_registry_token_for_what_was_not_asked_for_is_refused() {
        let asked = ScopeSet::from_field("repository:a:pull repository:b:pull").unwrap();
        for (kind, name, is_fine) in [
            ("repository", "a", true),
            ("repository", "b", true),
            ("repository", "c", false),
            ("repository", "a/b", false),
            ("repository", "A", false),
            ("repository", "*", false),
            ("registry", "a", false),
            ("registry", "catalog", false),
            ("some prose", "a b", false),
        ] {
            let access = |actions: &str| {
                token(&format!(
                    r#"{{"access":[{{"type":"repository","name":"a","actions":["pull"]}},{{"type":"{kind}","name":"{name}","actions":[{actions}]}}]}}"#
                ))
            };
            let answer = granted(&access(r#""pull""#).into(), &asked);
            assert_eq!(answer.is_ok(), is_fine, "{kind}:{name}");
            if !is_fine {
                assert!(
                    matches!(answer, Err(UpstreamError::Malformed(_))),
                    "{kind}:{name}"
                );
            }
            // An entry without an action grants nothing.
            assert!(granted(&access("").into(), &asked).is_ok(), "{kind}:{name}");
        }
    }
}
