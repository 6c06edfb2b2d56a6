//! ACR's own tokens: making them, and telling whether one is still good.

use serde_json::{Map, Value, json};

use super::{permissions::Scope, refusal::Refusal};
use crate::{
    Registry,
    jwt::Parsed,
    observation::IssuedSecret,
    observation::sha256_hex,
    request::Request,
    scene::Scene,
    tokens::{Validity, mint},
};

/// `grant_type` of the two kinds of token.
const REFRESH: &str = "refresh_token";
const ACCESS: &str = "access_token";

/// Length of the `rid` claim, a registry's ID.
const REGISTRY_ID_DIGITS: usize = 32;

/// Whom a token speaks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) object_id: String,
    pub(super) client_id: String,
}

/// A token that was verified.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    pub(super) holder: Holder,
    pub(super) exp: i64,
    /// What an access token is limited to; a refresh token is not.
    pub(super) access: Option<Vec<Scope>>,
}

/// Verifies a refresh or an access token: signature, registry, expiry, role mode.
pub(super) fn verify(token: &str, registry: &Registry, scene: &Scene<'_>) -> Result<Credential, Refusal> {
    let parsed = Parsed::parse(token).ok_or(Refusal::Unauthorized)?;
    let exp = parsed.time("exp").ok_or(Refusal::Unauthorized)?;
    let good = scene.keys.acr.signed(&parsed)
        && registry.hosts().any(|host| parsed.is_for(host))
        && scene.now.as_second() < exp
        && of_mode(&parsed, registry);
    if !good {
        return Err(Refusal::Unauthorized);
    }
    let text = |name| parsed.claim(name).unwrap_or_default().to_owned();
    let holder = Holder {
        object_id: text("sub"),
        client_id: text("appid"),
    };
    let access = match parsed.claim("grant_type") {
        Some(REFRESH) => None,
        _ => Some(scopes_of(&parsed)),
    };
    Ok(Credential { holder, exp, access })
}

/// Refuses a bearer token that was issued under another role mode.
pub(super) fn current_mode(request: &Request, registry: &Registry) -> Result<(), Refusal> {
    match request.bearer().and_then(Parsed::parse) {
        Some(token) if !of_mode(&token, registry) => Err(Refusal::Challenge {
            scope: None,
            invalid_token: true,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Makes a refresh token.
pub(super) fn refresh_token(
    holder: &Holder,
    registry: &Registry,
    service: &str,
    scene: &Scene<'_>,
) -> (String, IssuedSecret) {
    let ttl_s = scene
        .state
        .short_lived
        .refresh_s
        .unwrap_or(registry.refresh_ttl_s);
    let validity = Validity::from_now(scene.now, ttl_s, scene.token_fault);
    let permissions = json!({"Actions": ["read"], "NotActions": null});
    let claims = [("grant_type", json!(REFRESH)), ("permissions", permissions)];
    issue(
        "acr_refresh_token",
        holder,
        claims.into(),
        validity,
        registry,
        service,
        scene,
    )
}

/// Makes an access token for scopes. `exp` is given where it must be that of another token.
pub(super) fn access_token(
    holder: &Holder,
    scopes: &[Scope],
    exp: Option<i64>,
    registry: &Registry,
    service: &str,
    scene: &Scene<'_>,
) -> (String, IssuedSecret) {
    let ttl_s = scene.state.short_lived.access_s.unwrap_or(registry.access_ttl_s);
    let validity = Validity::from_now(scene.now, ttl_s, scene.token_fault);
    let validity = Validity {
        exp: exp.unwrap_or(validity.exp),
        ..validity
    };
    let access: Vec<Value> = scopes.iter().map(Scope::claim).collect();
    let claims = [("grant_type", json!(ACCESS)), ("access", json!(access))];
    issue(
        "acr_access_token",
        holder,
        claims.into(),
        validity,
        registry,
        service,
        scene,
    )
}

fn issue(
    kind: &str,
    holder: &Holder,
    own: Vec<(&str, Value)>,
    validity: Validity,
    registry: &Registry,
    service: &str,
    scene: &Scene<'_>,
) -> (String, IssuedSecret) {
    let mut registry_id = sha256_hex(registry.host.as_bytes());
    registry_id.truncate(REGISTRY_ID_DIGITS);
    let common = vec![
        ("jti", json!(scene.draw.token_id)),
        ("sub", json!(holder.object_id)),
        ("iss", json!("Azure Container Registry")),
        ("aud", json!(service)),
        ("version", json!("1.0")),
        ("rid", json!(registry_id)),
        ("appid", json!(holder.client_id)),
        ("roles", json!([])),
        ("mode_epoch", json!(registry.mode_epoch)),
    ];
    let claims: Map<String, Value> = common
        .into_iter()
        .chain(own)
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let token = mint(
        &scene.keys.acr,
        claims,
        validity.backdated(registry.backdate_s),
        scene.token_fault,
    );
    let secret = IssuedSecret {
        kind: kind.to_owned(),
        subject: holder.client_id.clone(),
        audience: service.to_owned(),
        secret: token.clone(),
    };
    (token, secret)
}

fn of_mode(token: &Parsed, registry: &Registry) -> bool {
    token
        .time("mode_epoch")
        .is_none_or(|epoch| u64::try_from(epoch) == Ok(registry.mode_epoch))
}

fn scopes_of(token: &Parsed) -> Vec<Scope> {
    let claims = token.claims.get("access").and_then(Value::as_array);
    claims
        .into_iter()
        .flatten()
        .filter_map(Scope::from_claim)
        .collect()
}
