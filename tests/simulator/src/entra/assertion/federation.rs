//! The assertion itself: whether it is a token that a federated credential stands for, and whether it is
//! genuine and of today.

use super::Refusal;
use crate::{
    Cloud, FederatedCredential, Principal,
    entra::{FetchedKeys, access_token::OBTAINED_BY_FEDERATION},
    jwt::Parsed,
    scene::Scene,
};

pub(super) fn header(assertion: &Parsed) -> Result<(), Refusal> {
    let alg = assertion.text("alg").unwrap_or_default();
    if alg != "RS256" {
        let text = format!("Invalid JWT token. Unsupported alg '{alg}'. Supported: 'RS256, HS256'.");
        return Err(Refusal::new(5_002_738, "invalid_request", text));
    }
    match assertion.text("typ") {
        None | Some("JWT") => Ok(()),
        Some(other) => {
            let text = format!("Invalid JWT header. Type '{other}' is not supported.");
            Err(Refusal::new(5_002_727, "invalid_request", text))
        }
    }
}

/// A credential counts once it is visible; until it is settled, only if the coin says so.
pub(super) fn federated(principal: &Principal, assertion: &Parsed, scene: &Scene<'_>) -> Result<(), Refusal> {
    let seen = |fic: &&FederatedCredential| {
        fic.visible_at.is_none_or(|at| at <= scene.now)
            && (fic.flaky_until.is_none_or(|until| until <= scene.now) || scene.draw.coin < 0.5)
    };
    let issuer = assertion.claim("iss").unwrap_or_default();
    let subject = assertion.claim("sub").unwrap_or_default();
    let by_issuer: Vec<_> = scene
        .state
        .credentials_of(principal)
        .iter()
        .filter(seen)
        .filter(|fic| fic.issuer == issuer)
        .collect();
    if by_issuer.is_empty() {
        return Err(Refusal::no_federated_credential(700_211, "issuer", issuer));
    }
    let by_audience: Vec<_> = by_issuer
        .into_iter()
        .filter(|fic| assertion.is_for(&fic.audience))
        .collect();
    if by_audience.is_empty() {
        let audience = assertion
            .claims
            .get("aud")
            .map(ToString::to_string)
            .unwrap_or_default();
        return Err(Refusal::no_federated_credential(700_212, "audience", &audience));
    }
    if by_audience.iter().any(|fic| fic.subject == subject) {
        return Ok(());
    }
    let only_case = by_audience
        .iter()
        .any(|fic| fic.subject.eq_ignore_ascii_case(subject));
    let code = if only_case { 7_002_138 } else { 700_213 };
    Err(Refusal::no_federated_credential(code, "subject", subject))
}

pub(super) fn signature(assertion: &Parsed, keys: &FetchedKeys) -> Result<(), Refusal> {
    match keys {
        Ok(keys) if keys.verifies(assertion) => Ok(()),
        Ok(_) => Err(Refusal::new(
            700_027,
            "invalid_client",
            "Client assertion failed signature validation. The key was not found, or the signature does not match.",
        )),
        Err(_) => Err(Refusal::new(
            50166,
            "invalid_request",
            "Request to External OIDC endpoint failed.",
        )),
    }
}

/// Entra takes its own tokens from managed identities, and only those that did not come out of a federated credential
/// themselves (AADSTS700231, seen in azure-workload-identity issue 1363).
pub(super) fn at_first_hand(assertion: &Parsed, scene: &Scene<'_>) -> Result<(), Refusal> {
    let issuer = assertion.claim("iss").unwrap_or_default();
    if scene.state.is_entra_issuer(issuer) && assertion.claims.get(OBTAINED_BY_FEDERATION).is_some() {
        return Err(Refusal::new(
            700_231,
            "invalid_client",
            "Token obtained using another federated identity credential may not be used as federated identity credential.",
        ));
    }
    Ok(())
}

pub(super) fn validity(assertion: &Parsed, cloud: &Cloud, scene: &Scene<'_>) -> Result<(), Refusal> {
    let skew = cloud.assertion_skew_s;
    let now = scene.now.as_second();
    let (from, to) = (assertion.time("nbf"), assertion.time("exp"));
    if from.is_none_or(|from| from <= now + skew) && to.is_some_and(|to| now < to + skew) {
        return Ok(());
    }
    let text = format!(
        "Client assertion is not within its valid time range. Current time: {}, assertion valid from {}, expiry time of \
         assertion {}.",
        now,
        from.unwrap_or_default(),
        to.unwrap_or_default()
    );
    Err(Refusal::new(700_024, "invalid_client", text))
}
