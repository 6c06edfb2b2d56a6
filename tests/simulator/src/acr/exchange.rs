//! `POST /oauth2/exchange`: an Entra token for an ACR refresh token.

use http::StatusCode;
use serde_json::json;

use super::{
    credentials::{Holder, refresh_token},
    permissions::Permissions,
    refusal::Refusal,
};
use crate::{
    ArmPolicy, Registry,
    answer::{Answer, Steps},
    entra::token_issuer,
    jwt::Parsed,
    request::{Parameters, Request},
    scene::Scene,
};

/// The first is current, the others are deprecated and still in use.
const GRANT_TYPES: [&str; 3] = ["access_token", "access_token_refresh_token", "refresh_token"];

/// Answers an exchange.
pub(super) fn exchange(
    request: &Request,
    registry: &Registry,
    scene: &Scene<'_>,
    steps: &mut Steps,
) -> Result<Answer, Refusal> {
    let form = &request.form;
    steps.check(
        "form",
        if request.has_form() {
            Ok(())
        } else {
            Err(Refusal::BadRequest)
        },
    )?;
    steps.check("grant type", grant_type(form))?;
    let parsed = Parsed::parse(form.get("access_token").unwrap_or_default()).ok_or(Refusal::Unauthorized);
    let token = steps.check("token", parsed)?;
    steps.check("signature", accept(scene.keys.entra.signed(&token)))?;
    steps.check(
        "expiry",
        accept(token.time("exp").is_some_and(|exp| scene.now.as_second() < exp)),
    )?;
    let issuer = token_issuer(&registry.tenant);
    steps.check(
        "tenant",
        accept(
            token
                .claim("iss")
                .is_some_and(|iss| iss.eq_ignore_ascii_case(&issuer)),
        ),
    )?;
    let named = form
        .get("tenant")
        .is_none_or(|tenant| tenant.eq_ignore_ascii_case(&registry.tenant));
    steps.check("named tenant", accept(named))?;
    steps.check("audience", audience(&token, registry, scene))?;

    let text = |name| token.claim(name).unwrap_or_default().to_owned();
    let holder = Holder {
        object_id: text("oid"),
        client_id: text("appid"),
    };
    steps.check(
        "role",
        accept(Permissions::of(&holder.object_id, registry, scene.now).any()),
    )?;

    let (token, secret) = refresh_token(&holder, registry, registry.service(&request.host), scene);
    let mut answer = Answer::json(StatusCode::OK, &json!({"refresh_token": token}));
    answer.issued.push(secret);
    Ok(answer)
}

/// ACR's audience always; that of Azure Resource Manager where the registry's policy has it.
fn audience(token: &Parsed, registry: &Registry, scene: &Scene<'_>) -> Result<(), Refusal> {
    let tenant = scene
        .state
        .tenant(&registry.tenant)
        .ok_or(Refusal::Unauthorized)?;
    let cloud = scene.state.cloud(&tenant.cloud).ok_or(Refusal::Unauthorized)?;
    let audience = token.claim("aud").unwrap_or_default();
    let is_acr = audience.trim_end_matches('/') == cloud.acr_audience;
    let arm_is_fine = registry.arm_policy == ArmPolicy::Enabled && cloud.knows_audience(audience);
    accept(is_acr || arm_is_fine)
}

fn grant_type(form: &Parameters) -> Result<(), Refusal> {
    match form.get("grant_type") {
        Some(grant) if GRANT_TYPES.contains(&grant) => Ok(()),
        Some(_) | None => Err(Refusal::BadRequest),
    }
}

fn accept(good: bool) -> Result<(), Refusal> {
    if good { Ok(()) } else { Err(Refusal::Unauthorized) }
}

#[cfg(test)]
mod tests;
