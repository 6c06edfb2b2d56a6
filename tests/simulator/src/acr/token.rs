//! `/oauth2/token`: an access token for scopes, by form or by Basic credentials.
//!
//! What it grants is what the principal's roles allow now, not what they allowed when the refresh token was
//! issued.

use http::StatusCode;
use serde_json::json;

use super::{
    NULL_GUID,
    credentials::{Credential, Holder, access_token, verify},
    permissions::{Permissions, Scope},
    refusal::Refusal,
};
use crate::{
    AccessTokenAsBasic, InsufficientScope, PasswordGrant, Registry,
    answer::{Answer, Steps},
    request::{Parameters, Request},
    scene::Scene,
};

/// On what an access token rests.
enum Basis {
    Credential(Credential),
    Anonymous,
}

/// `POST`, as Azure's clients and containerd do it.
pub(super) fn by_form(
    request: &Request,
    registry: &Registry,
    scene: &Scene<'_>,
    steps: &mut Steps,
) -> Result<Answer, Refusal> {
    let form = &request.form;
    let basis = match form.get("grant_type") {
        Some("refresh_token") => {
            let verified = verify(form.get("refresh_token").unwrap_or_default(), registry, scene);
            // Only a refresh token refreshes.
            Basis::Credential(steps.check("refresh token", verified.and_then(Credential::unlimited))?)
        }
        Some("password") => steps.check("password", by_password(form, registry, scene))?,
        Some(_) | None => return steps.check("grant type", Err(Refusal::BadRequest)),
    };
    steps.check("service", service(form, registry))?;
    // Without a scope the endpoint has been seen to answer an empty 400.
    let scopes = steps.check(
        "scope",
        scopes(form)
            .filter(|scopes| !scopes.is_empty())
            .ok_or(Refusal::BadRequest),
    )?;
    issue(&basis, &scopes, request, registry, scene, steps)
}

/// `GET` with Basic credentials, as docker and crane do it.
pub(super) fn by_basic(
    request: &Request,
    registry: &Registry,
    scene: &Scene<'_>,
    steps: &mut Steps,
) -> Result<Answer, Refusal> {
    let basis = match request.basic() {
        Some((user, password)) => steps.check("basic", basic(&user, &password, registry, scene))?,
        None => steps.check("anonymous", anonymous(registry))?,
    };
    steps.check("service", service(&request.query, registry))?;
    let scopes = steps.check("scope", scopes(&request.query).ok_or(Refusal::BadRequest))?;
    issue(&basis, &scopes, request, registry, scene, steps)
}

fn by_password(form: &Parameters, registry: &Registry, scene: &Scene<'_>) -> Result<Basis, Refusal> {
    match (form.get("username"), form.get("password")) {
        (Some(user), Some(password)) => match registry.switches.password_grant {
            PasswordGrant::BadRequest => Err(Refusal::BadRequest),
            PasswordGrant::Unauthorized => Err(Refusal::Unauthorized),
            PasswordGrant::Accept => basic(user, password, registry, scene),
        },
        _ => anonymous(registry),
    }
}

fn anonymous(registry: &Registry) -> Result<Basis, Refusal> {
    if registry.anonymous_pull {
        Ok(Basis::Anonymous)
    } else {
        Err(Refusal::Unauthorized)
    }
}

/// The null GUID with a token of ours.
fn basic(user: &str, password: &str, registry: &Registry, scene: &Scene<'_>) -> Result<Basis, Refusal> {
    if user != NULL_GUID {
        return Err(Refusal::UnauthorizedBasic);
    }
    let credential = verify(password, registry, scene).map_err(|_refusal| Refusal::UnauthorizedBasic)?;
    let is_access_token = credential.access.is_some();
    if is_access_token && registry.switches.access_token_as_basic == AccessTokenAsBasic::Reject401 {
        return Err(Refusal::UnauthorizedBasic);
    }
    Ok(Basis::Credential(credential))
}

fn service(parameters: &Parameters, registry: &Registry) -> Result<(), Refusal> {
    let known = parameters
        .get("service")
        .is_some_and(|service| registry.answers_to(service));
    if known { Ok(()) } else { Err(Refusal::Unauthorized) }
}

/// Several parameters, each with several scopes. `None` if one is malformed.
fn scopes(parameters: &Parameters) -> Option<Vec<Scope>> {
    parameters
        .all("scope")
        .flat_map(str::split_whitespace)
        .map(|scope| scope.parse().ok())
        .collect()
}

fn issue(
    basis: &Basis,
    wanted: &[Scope],
    request: &Request,
    registry: &Registry,
    scene: &Scene<'_>,
    steps: &mut Steps,
) -> Result<Answer, Refusal> {
    let (permissions, limit, holder) = match basis {
        Basis::Anonymous => (Permissions::anonymous(registry), None, Holder::default()),
        Basis::Credential(credential) => (
            Permissions::of(&credential.holder.object_id, registry, scene.now),
            credential.access.as_deref(),
            credential.holder.clone(),
        ),
    };
    let within_limit = |scope: &Scope, action: &str| {
        limit.is_none_or(|limit| {
            limit.iter().any(|own| {
                own.kind == scope.kind
                    && own.name == scope.name
                    && own.actions.iter().any(|own| own == action)
            })
        })
    };
    let granted: Vec<Scope> = wanted
        .iter()
        .map(|scope| {
            scope.limited_to(|action| permissions.allows(scope, action) && within_limit(scope, action))
        })
        .collect();
    let sufficient = match registry.switches.insufficient_scope {
        InsufficientScope::Reduced200 => Ok(()),
        _ if granted == wanted => Ok(()),
        InsufficientScope::Deny401 => Err(Refusal::Unauthorized),
        InsufficientScope::Deny403 => Err(Refusal::Forbidden),
    };
    steps.check("permission", sufficient)?;

    let exp = match (basis, registry.switches.access_token_as_basic) {
        (
            Basis::Credential(Credential {
                exp, access: Some(_), ..
            }),
            AccessTokenAsBasic::ReissueSameExp,
        ) => Some(*exp),
        _ => None,
    };
    let granted: Vec<Scope> = granted
        .into_iter()
        .filter(|scope| !scope.actions.is_empty())
        .collect();
    let service = registry.service(&request.host);
    let (token, secret) = access_token(&holder, &granted, exp, registry, service, scene);
    let mut answer = Answer::json(StatusCode::OK, &json!({"access_token": token}));
    answer.issued.push(secret);
    Ok(answer)
}

impl Credential {
    /// Refuses an access token.
    fn unlimited(self) -> Result<Self, Refusal> {
        if self.access.is_none() {
            Ok(self)
        } else {
            Err(Refusal::Unauthorized)
        }
    }
}

#[cfg(test)]
mod tests;
