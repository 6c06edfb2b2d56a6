//! Entra access tokens, for both ways to get one: an assertion, or the metadata service.

use serde_json::{Map, Value, json};

use crate::{
    Principal, PrincipalKind,
    observation::IssuedSecret,
    scene::Scene,
    state::MANAGED_IDENTITY_TTL_S,
    tokens::{Validity, mint},
};

/// Applications get 60 to 90 minutes, at random.
const APP_TTL_S: std::ops::Range<f64> = 3_600.0..5_400.0;

/// `nbf` is five minutes before the call.
const NOT_BEFORE_S: i64 = 300;

/// The simulator's own claim, where Entra just knows it: the token came out of a federated credential.
pub(super) const OBTAINED_BY_FEDERATION: &str = "sim_federated";

/// A token and what is said about it.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) validity: Validity,
    pub(crate) secret: IssuedSecret,
}

/// What a principal got its token for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obtained {
    /// Being on the machine.
    Metadata,
    /// An assertion that one of its federated credentials trusts.
    Federation,
}

/// Issues a token for a principal.
pub(crate) fn issue(principal: &Principal, audience: &str, obtained: Obtained, scene: &Scene<'_>) -> Issued {
    let fault = scene.token_fault;
    let validity = Validity::from_now(scene.now, lifetime_s(principal, scene), fault);
    let validity = Validity {
        nbf: validity.nbf - NOT_BEFORE_S,
        ..validity
    };
    let mut claims = Map::new();
    for (name, value) in [
        ("aud", json!(audience)),
        ("idtyp", json!("app")),
        ("oid", json!(principal.object_id)),
        ("sub", json!(principal.object_id)),
        ("tid", json!(principal.tenant)),
        ("jti", json!(scene.draw.token_id)),
    ] {
        claims.insert(name.to_owned(), value);
    }
    let version = match issuer_of_exchange(principal, audience, scene) {
        // For Entra itself: tokens of the second version.
        Some(issuer) => [
            ("iss", json!(issuer)),
            ("azp", json!(principal.client_id)),
            ("azpacr", json!("2")),
            ("ver", json!("2.0")),
        ],
        None => [
            ("iss", json!(token_issuer(&principal.tenant))),
            ("appid", json!(principal.client_id)),
            ("appidacr", json!("2")),
            ("ver", json!("1.0")),
        ],
    };
    claims.extend(version.map(|(name, value)| (name.to_owned(), value)));
    if obtained == Obtained::Federation {
        claims.insert(OBTAINED_BY_FEDERATION.to_owned(), Value::Bool(true));
    }
    if let Some(resource_id) = &principal.resource_id {
        claims.insert("xms_mirid".to_owned(), Value::String(resource_id.clone()));
    }
    let token = mint(&scene.keys.entra, claims, validity, fault);
    let secret = IssuedSecret {
        kind: "entra_access_token".to_owned(),
        subject: principal.client_id.clone(),
        audience: audience.to_owned(),
        secret: token.clone(),
    };
    Issued {
        token,
        validity,
        secret,
    }
}

/// `iss` of a tenant's access tokens.
pub(crate) fn token_issuer(tenant: &str) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

/// `iss` of a token that the principal will show to Entra, if it is for that.
fn issuer_of_exchange(principal: &Principal, audience: &str, scene: &Scene<'_>) -> Option<String> {
    let tenant = scene.state.tenant(&principal.tenant)?;
    let cloud = scene.state.cloud(&tenant.cloud)?;
    (cloud.federation_audience == audience)
        .then(|| scene.state.entra_issuer(tenant))
        .flatten()
}

fn lifetime_s(principal: &Principal, scene: &Scene<'_>) -> u64 {
    scene
        .state
        .short_lived
        .entra_s
        .or(principal.token_ttl_s)
        .unwrap_or_else(|| match principal.kind {
            PrincipalKind::Uami => MANAGED_IDENTITY_TTL_S,
            PrincipalKind::App => random_app_ttl_s(scene.draw.coin),
        })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a coin in 0..1 keeps it in the range"
)]
fn random_app_ttl_s(coin: f64) -> u64 {
    (APP_TTL_S.start + coin * (APP_TTL_S.end - APP_TTL_S.start)) as u64
}
