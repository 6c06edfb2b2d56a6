//! One test for each refusal of the exchange, and what a refresh token says.

use jiff::Timestamp;
use serde_json::{Map, json};

use super::*;
use crate::{
    Role, RoleMode, Service, State,
    entra::{Obtained, issue},
    scene::sample::{self, CLIENT, HOST, KEYS, NOW, OBJECT, TENANT, scene, state},
    state::ACR_AUDIENCE,
    tokens::{Validity, mint},
};

const ARM: &str = "https://management.azure.com/";

fn entra_token(state: &State, audience: &str) -> String {
    let draw = sample::draw();
    issue(
        &state.principals[0],
        audience,
        Obtained::Federation,
        &scene(state, &draw),
    )
    .token
}

/// The trace's last line and the status.
fn ask(state: &State, form: &[(&str, &str)]) -> (u16, String) {
    let draw = sample::draw();
    let request = Request::sample(Service::Acr, &format!("https://{HOST}/oauth2/exchange"), form);
    let registry = &state.registries[0];
    let scene = scene(state, &draw);
    let mut steps = Steps::default();
    let answer = exchange(&request, registry, &scene, &mut steps)
        .unwrap_or_else(|refusal| refusal.answer(registry, &request, &scene))
        .after(steps);
    (answer.status.as_u16(), answer.trace.last().unwrap().clone())
}

fn ask_with(state: &State, token: &str) -> (u16, String) {
    ask(
        state,
        &[
            ("grant_type", "access_token"),
            ("service", HOST),
            ("access_token", token),
        ],
    )
}

fn refused(status: u16, step: &str) -> (u16, String) {
    (status, format!("{step} refused"))
}

#[test]
fn exchange_gives_a_refresh_token_with_acrs_claims() {
    let state = state();
    let token = entra_token(&state, ACR_AUDIENCE);
    let draw = sample::draw();
    let form = [("grant_type", "access_token"), ("access_token", token.as_str())];
    let request = Request::sample(Service::Acr, &format!("https://{HOST}/oauth2/exchange"), &form);
    let answer = exchange(
        &request,
        &state.registries[0],
        &scene(&state, &draw),
        &mut Steps::default(),
    )
    .unwrap();
    let body = answer.value();
    assert_eq!(body.as_object().unwrap().len(), 1, "nothing but the token");
    let token = Parsed::parse(body["refresh_token"].as_str().unwrap()).unwrap();
    assert!(KEYS.acr.signed(&token) && token.is_for(HOST));
    assert_eq!(token.time("exp").unwrap() - token.time("nbf").unwrap(), 11_700);
    assert_eq!(token.time("exp"), Some(NOW + 10_800));
    assert_eq!(
        (token.claim("sub"), token.claim("appid")),
        (Some(OBJECT), Some(CLIENT))
    );
    assert_eq!(token.claim("iss"), Some("Azure Container Registry"));
}

#[test]
fn exchange_takes_the_deprecated_grant_types() {
    let state = state();
    let token = entra_token(&state, ACR_AUDIENCE);
    for grant in GRANT_TYPES {
        assert_eq!(
            ask(&state, &[("grant_type", grant), ("access_token", &token)]).0,
            200,
            "{grant}"
        );
    }
    assert_eq!(
        ask(&state, &[("grant_type", "password")]),
        refused(400, "grant type")
    );
    assert_eq!(ask(&state, &[]), refused(400, "grant type"));
}

#[test]
fn exchange_refuses_what_entra_did_not_issue() {
    let state = state();
    assert_eq!(ask_with(&state, "rubbish"), refused(401, "token"));
    let claims = Map::from_iter([
        ("oid".to_owned(), json!(OBJECT)),
        ("aud".to_owned(), json!(ACR_AUDIENCE)),
    ]);
    let validity = Validity {
        iat: NOW,
        nbf: NOW,
        exp: NOW + 60,
    };
    let forged = mint(&KEYS.acr, claims, validity, None);
    assert_eq!(ask_with(&state, &forged), refused(401, "signature"));
}

#[test]
fn exchange_refuses_an_expired_token() {
    let mut state = state();
    state.short_lived.entra_s = Some(0);
    let token = entra_token(&state, ACR_AUDIENCE);
    assert_eq!(ask_with(&state, &token), refused(401, "expiry"));
}

#[test]
fn exchange_refuses_another_tenants_token() {
    let mut state = state().with_tenant("other");
    let token = entra_token(&state, ACR_AUDIENCE);
    let named = [
        ("grant_type", "access_token"),
        ("access_token", token.as_str()),
        ("tenant", "other"),
    ];
    assert_eq!(ask(&state, &named), refused(401, "named tenant"));
    let named = [
        ("grant_type", "access_token"),
        ("access_token", token.as_str()),
        ("tenant", TENANT),
    ];
    assert_eq!(ask(&state, &named).0, 200);
    state.registries[0].tenant = "other".to_owned();
    assert_eq!(ask_with(&state, &token), refused(401, "tenant"));
}

#[test]
fn exchange_takes_arm_tokens_by_policy() {
    let mut state = state();
    let token = entra_token(&state, ARM);
    assert_eq!(ask_with(&state, &token).0, 200);
    state.registries[0].arm_policy = ArmPolicy::Disabled;
    assert_eq!(ask_with(&state, &token), refused(401, "audience"));
    assert_eq!(ask_with(&state, &entra_token(&state, ACR_AUDIENCE)).0, 200);
}

#[test]
fn exchange_refuses_arm_tokens_of_another_cloud() {
    let state = state();
    let token = entra_token(&state, "https://management.chinacloudapi.cn");
    assert_eq!(ask_with(&state, &token), refused(401, "audience"));
}

#[test]
fn exchange_needs_a_role_that_counts_now() {
    let mut state = state();
    let token = entra_token(&state, ACR_AUDIENCE);
    state.registries[0].roles[0].effective_at = Some(Timestamp::from_second(NOW + 1).unwrap());
    assert_eq!(ask_with(&state, &token), refused(401, "role"));
    state.registries[0].roles[0].effective_at = Some(Timestamp::from_second(NOW).unwrap());
    assert_eq!(ask_with(&state, &token).0, 200);
    state.registries[0].switch_mode(RoleMode::RbacAbac);
    assert_eq!(ask_with(&state, &token), refused(401, "role"));
    state.registries[0].grant(OBJECT, Role::RepoReader, None);
    assert_eq!(ask_with(&state, &token).0, 200);
}
