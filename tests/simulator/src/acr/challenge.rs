//! `/v2/` of a registry without a real one behind it: challenges, and whether names and tags exist.

use http::{Method, StatusCode};
use serde_json::json;

use super::{
    credentials::verify,
    permissions::{Permissions, Scope},
    refusal::Refusal,
};
use crate::{
    Operation, Registry,
    answer::{Answer, Steps},
    observation::sha256_hex,
    request::Request,
    scene::Scene,
};

/// Answers a request of the registry API.
pub(super) fn answer(
    request: &Request,
    registry: &Registry,
    scene: &Scene<'_>,
    steps: &mut Steps,
) -> Result<Answer, Refusal> {
    let wanted = wanted_scope(request);
    steps.check(
        "bearer token",
        authorized(request, wanted.as_ref(), registry, scene),
    )?;
    match request.operation {
        Operation::Challenge => Ok(Answer::json(StatusCode::OK, &json!({}))),
        Operation::Catalog => {
            let names: Vec<&String> = registry.repositories.keys().collect();
            Ok(Answer::json(StatusCode::OK, &json!({"repositories": names})))
        }
        Operation::Manifest => steps.check("manifest", manifest(request, registry)),
        Operation::Connect
        | Operation::Token
        | Operation::Exchange
        | Operation::Blob
        | Operation::Discovery
        | Operation::Keys
        | Operation::Other => Err(Refusal::NameUnknown(
            repository(request).unwrap_or_default().to_owned(),
        )),
    }
}

/// What a token must be good for.
fn wanted_scope(request: &Request) -> Option<Scope> {
    if request.operation == Operation::Catalog {
        return Some(Scope::catalog());
    }
    let reads = request.method == Method::GET || request.method == Method::HEAD;
    let actions: &[&str] = if reads { &["pull"] } else { &["pull", "push"] };
    repository(request).map(|name| Scope::repository(name, actions))
}

fn authorized(
    request: &Request,
    wanted: Option<&Scope>,
    registry: &Registry,
    scene: &Scene<'_>,
) -> Result<(), Refusal> {
    let challenge = |invalid_token| Refusal::Challenge {
        scope: wanted.cloned(),
        invalid_token,
    };
    let token = request.bearer().ok_or_else(|| challenge(false))?;
    let credential = verify(token, registry, scene).map_err(|_refusal| challenge(true))?;
    let access = credential.access.ok_or_else(|| challenge(true))?;
    let holds = |scope: &Scope, action: &String| {
        access
            .iter()
            .any(|own| own.kind == scope.kind && own.name == scope.name && own.actions.contains(action))
    };
    let enough = wanted.is_none_or(|scope| scope.actions.iter().all(|action| holds(scope, action)));
    let anonymous = || {
        let everyone = Permissions::anonymous(registry);
        wanted.is_some_and(|scope| scope.actions.iter().all(|action| everyone.allows(scope, action)))
    };
    if enough || anonymous() {
        Ok(())
    } else {
        Err(challenge(false))
    }
}

/// An index that lists no images: the name and the tag are all there is.
fn manifest(request: &Request, registry: &Registry) -> Result<Answer, Refusal> {
    let name = repository(request).unwrap_or_default();
    let tags = registry
        .repositories
        .get(name)
        .ok_or_else(|| Refusal::NameUnknown(name.to_owned()))?;
    let tag = request.path.rsplit('/').next().unwrap_or_default();
    if !tags.iter().any(|known| known == tag) {
        return Err(Refusal::ManifestUnknown(tag.to_owned()));
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": []});
    let digest = format!("sha256:{}", sha256_hex(index.to_string().as_bytes()));
    Ok(Answer::json(StatusCode::OK, &index)
        .with(http::header::CONTENT_TYPE, media_type)
        .with(http::HeaderName::from_static("docker-content-digest"), &digest))
}

/// `team/app` of `/v2/team/app/manifests/v1`.
fn repository(request: &Request) -> Option<&str> {
    let path = request.path.strip_prefix("/v2/")?;
    ["/manifests/", "/blobs/", "/tags/"]
        .iter()
        .find_map(|part| path.split_once(part))
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests;
