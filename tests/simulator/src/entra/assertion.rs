//! `POST /{tenant}/oauth2/v2.0/token` with a client assertion: workload identity federation.
//!
//! The checks stand in the order in which Entra is taken to make them; the first that fails is the answer.
//! Issuer, audience, subject is the order of the error codes; the real order is not known.

use http::{Method, StatusCode, header};
use serde_json::{Map, json};

use super::{
    FetchedKeys,
    access_token::{Obtained, issue},
    refusal::Refusal,
};
use crate::{
    Cloud, Principal, Tenant,
    answer::{Answer, Steps},
    jwt::Parsed,
    request::{Parameters, Request},
    scene::Scene,
};

mod federation;

use federation::{at_first_hand, federated, header as header_of, signature, validity};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Scopes that some clients always add, and that ask for nothing here.
const IGNORED_SCOPES: [&str; 3] = ["openid", "offline_access", "profile"];

/// From this lifetime on Entra says when to refresh.
const REFRESH_IN_FROM_S: i64 = 7_200;

/// Answers a token request.
pub(super) fn token(request: &Request, keys: &FetchedKeys, scene: &Scene<'_>) -> Answer {
    if request.method != Method::POST {
        return Answer::empty(StatusCode::METHOD_NOT_ALLOWED).because("method is not POST");
    }
    let mut steps = Steps::default();
    let answer = match decide(request, keys, scene, &mut steps) {
        Ok(grant) => granted(&grant, scene),
        Err(refusal) => refusal.answer(cloud_of(request, scene), scene),
    };
    let answer = answer.after(steps).with(header::PRAGMA, "no-cache");
    with_request_ids(answer, request, scene)
}

struct Grant<'a> {
    principal: &'a Principal,
    audience: String,
}

/// All checks, in order.
fn decide<'a>(
    request: &Request,
    keys: &FetchedKeys,
    scene: &Scene<'a>,
    steps: &mut Steps,
) -> Result<Grant<'a>, Refusal> {
    let form = &request.form;
    let is_form = if request.has_form() {
        Ok(())
    } else {
        Err(Refusal::missing("grant_type"))
    };
    steps.check("content type", is_form)?;
    let tenant = steps.check("tenant", tenant(request, scene))?;
    let cloud = steps.check("cloud", cloud(request, tenant, scene))?;
    steps.check("grant type", grant_type(form))?;
    let (client_id, assertion) = steps.check("parameters", parameters(form))?;
    let malformed = || {
        Refusal::new(
            50027,
            "invalid_request",
            "Invalid JWT token. Token format not valid.",
        )
    };
    let assertion = steps.check("assertion", Parsed::parse(assertion).ok_or_else(malformed))?;
    steps.check("header", header_of(&assertion))?;
    let principal = steps.check("principal", principal(client_id, tenant, scene))?;
    steps.check("federated credential", federated(principal, &assertion, scene))?;
    if let Err(reason) = keys {
        steps.note(reason);
    }
    steps.check("signature", signature(&assertion, keys))?;
    steps.check("first hand", at_first_hand(&assertion, scene))?;
    steps.check("validity", validity(&assertion, cloud, scene))?;
    let audience = steps.check("scope", audience(form))?;
    steps.check("audience", known_audience(&audience, cloud))?;
    Ok(Grant { principal, audience })
}

fn tenant<'a>(request: &Request, scene: &Scene<'a>) -> Result<&'a Tenant, Refusal> {
    let name = request.path.split('/').nth(1).unwrap_or_default();
    let unknown = || Refusal::new(90002, "invalid_request", format!("Tenant '{name}' not found."));
    scene.state.tenant(name).ok_or_else(unknown)
}

/// The tenant's cloud, which must be the one whose authority was asked. A host that is no authority, such as
/// the listener's own address, stands for every cloud.
fn cloud<'a>(request: &Request, tenant: &Tenant, scene: &Scene<'a>) -> Result<&'a Cloud, Refusal> {
    let own = scene.state.cloud(&tenant.cloud);
    let foreign = || {
        let text = format!("The tenant '{}' belongs to another national cloud.", tenant.id);
        Refusal::new(90038, "invalid_request", text)
    };
    match scene.state.cloud_of_authority(&request.host) {
        Some(asked) if asked.name != tenant.cloud => Err(foreign()),
        Some(_) | None => own.ok_or_else(foreign),
    }
}

fn grant_type(form: &Parameters) -> Result<(), Refusal> {
    match required(form, "grant_type")? {
        "client_credentials" => Ok(()),
        _ => Err(Refusal::new(
            9_002_313,
            "invalid_request",
            "Invalid request. Request is malformed or invalid.",
        )),
    }
}

/// Client ID and assertion.
fn parameters(form: &Parameters) -> Result<(&str, &str), Refusal> {
    let client_id = required(form, "client_id")?;
    if form.get("client_assertion_type") != Some(ASSERTION_TYPE) {
        return Err(Refusal::missing("client_assertion_type"));
    }
    Ok((client_id, required(form, "client_assertion")?))
}

fn principal<'a>(client_id: &str, tenant: &Tenant, scene: &Scene<'a>) -> Result<&'a Principal, Refusal> {
    let found = scene.state.principals.iter().find(|principal| {
        principal.client_id.eq_ignore_ascii_case(client_id)
            && principal.tenant.eq_ignore_ascii_case(&tenant.id)
    });
    let directory = &tenant.id;
    match found {
        Some(principal) if principal.enabled => Ok(principal),
        Some(_) => {
            let text = format!(
                "The client application {client_id} is missing service principal in the tenant {directory}."
            );
            Err(Refusal::new(7_000_229, "invalid_client", text))
        }
        None => {
            let text = format!(
                "Application with identifier '{client_id}' was not found in the directory '{directory}'."
            );
            Err(Refusal::new(700_016, "unauthorized_client", text))
        }
    }
}

fn required<'a>(form: &'a Parameters, name: &str) -> Result<&'a str, Refusal> {
    form.get(name).ok_or_else(|| Refusal::missing(name))
}

/// The one resource that is asked for.
fn audience(form: &Parameters) -> Result<String, Refusal> {
    let scope = required(form, "scope")?;
    let mut resources = scope
        .split_whitespace()
        .filter(|scope| !IGNORED_SCOPES.contains(scope));
    let malformed = || {
        let text = format!("The provided value for the input parameter 'scope' is not valid: '{scope}'.");
        Refusal::new(70011, "invalid_scope", text)
    };
    let resource = resources.next().ok_or_else(malformed)?;
    if resources.next().is_some() {
        let text = format!("The scope '{scope}' contains more than one resource.");
        return Err(Refusal::new(700_022, "invalid_scope", text));
    }
    match resource.strip_suffix("/.default") {
        Some(audience) if !audience.is_empty() => Ok(audience.to_owned()),
        _ => Err(malformed()),
    }
}

fn known_audience(audience: &str, cloud: &Cloud) -> Result<(), Refusal> {
    if cloud.issues_for(audience) {
        return Ok(());
    }
    let text = format!("The resource principal named {audience} was not found in the tenant.");
    Err(Refusal::new(
        if cloud.disconnected { 50001 } else { 500_011 },
        "invalid_resource",
        text,
    ))
}

fn granted(grant: &Grant<'_>, scene: &Scene<'_>) -> Answer {
    let issued = issue(grant.principal, &grant.audience, Obtained::Federation, scene);
    let expires_in = issued.validity.exp - scene.now.as_second();
    let mut body = Map::from_iter(
        [
            ("token_type", json!("Bearer")),
            ("expires_in", json!(expires_in)),
            ("ext_expires_in", json!(expires_in)),
            ("access_token", json!(issued.token)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    if expires_in >= REFRESH_IN_FROM_S {
        body.insert("refresh_in".to_owned(), json!(expires_in / 2));
    }
    let mut answer =
        Answer::json(StatusCode::OK, &body.into()).with(header::CACHE_CONTROL, "no-store, no-cache");
    answer.issued.push(issued.secret);
    answer
}

/// In whose manner an error is written.
fn cloud_of<'a>(request: &Request, scene: &Scene<'a>) -> Option<&'a Cloud> {
    let asked = scene.state.cloud_of_authority(&request.host);
    asked.or_else(|| scene.state.cloud(&tenant(request, scene).ok()?.cloud))
}

fn with_request_ids(mut answer: Answer, request: &Request, scene: &Scene<'_>) -> Answer {
    let name = http::HeaderName::from_static("x-ms-request-id");
    answer.set(name, &scene.draw.request_id);
    let wants_echo = request
        .header("return-client-request-id")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if let Some(id) = request.header("client-request-id").filter(|_| wants_echo) {
        answer.set(http::HeaderName::from_static("client-request-id"), id);
    }
    answer
}

#[cfg(test)]
mod tests;
