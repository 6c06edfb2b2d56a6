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

/// A token and what is said about it.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) validity: Validity,
    pub(crate) secret: IssuedSecret,
}

/// Issues a token for a principal.
pub(crate) fn issue(principal: &Principal, audience: &str, scene: &Scene<'_>) -> Issued {
    let fault = scene.token_fault;
    let validity = Validity::from_now(scene.now, lifetime_s(principal, scene), fault);
    let validity = Validity {
        nbf: validity.nbf - NOT_BEFORE_S,
        ..validity
    };
    let mut claims = Map::new();
    for (name, value) in [
        ("aud", json!(audience)),
        ("iss", json!(token_issuer(&principal.tenant))),
        ("appid", json!(principal.client_id)),
        ("appidacr", json!("2")),
        ("idtyp", json!("app")),
        ("oid", json!(principal.object_id)),
        ("sub", json!(principal.object_id)),
        ("tid", json!(principal.tenant)),
        ("ver", json!("1.0")),
        ("jti", json!(scene.draw.token_id)),
    ] {
        claims.insert(name.to_owned(), value);
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
