//! Entra ID: which route a request takes.

use http::{Method, StatusCode};
use serde_json::json;

use crate::{
    Operation,
    answer::Answer,
    jwt::{JwkSet, Parsed},
    request::Request,
    scene::Scene,
};

mod access_token;
mod assertion;
mod refusal;

pub(crate) use access_token::{Issued, Obtained, issue, token_issuer};

/// What fetching an issuer's keys came to.
pub(crate) type FetchedKeys = Result<JwkSet, String>;

/// The issuer that a token request's assertion names, whose keys are needed to decide it.
pub(crate) fn issuer_of(request: &Request) -> Option<String> {
    Parsed::parse(request.form.get("client_assertion")?)?
        .claim("iss")
        .map(str::to_owned)
}

/// Answers a request. `keys` are those of [`issuer_of`] the request.
pub(crate) fn answer(request: &Request, keys: &FetchedKeys, scene: &Scene<'_>) -> Answer {
    match request.operation {
        Operation::Token => assertion::token(request, keys, scene),
        Operation::Discovery if request.method == Method::GET => discovery(request, scene),
        Operation::Keys if request.method == Method::GET => {
            Answer::json(StatusCode::OK, &json!({"keys": [scene.keys.entra.public()]}))
        }
        Operation::Connect
        | Operation::Exchange
        | Operation::Challenge
        | Operation::Manifest
        | Operation::Blob
        | Operation::Catalog
        | Operation::Discovery
        | Operation::Keys
        | Operation::Other => Answer::empty(StatusCode::NOT_FOUND).because("no such route"),
    }
}

/// `GET /{tenant}/v2.0/.well-known/openid-configuration`: what clients of other languages read first.
fn discovery(request: &Request, scene: &Scene<'_>) -> Answer {
    let name = request.path.split('/').nth(1).unwrap_or_default();
    let Some(tenant) = scene.state.tenant(name) else {
        let refusal = refusal::Refusal::new(90002, "invalid_tenant", format!("Tenant '{name}' not found."));
        return refusal
            .answer(None, scene)
            .because(format!("tenant {name} unknown"));
    };
    let base = format!("https://{}/{}", request.authority, tenant.id);
    Answer::json(
        StatusCode::OK,
        &json!({
            "issuer": format!("{base}/v2.0"),
            "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{base}/oauth2/v2.0/token"),
            "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        }),
    )
}
