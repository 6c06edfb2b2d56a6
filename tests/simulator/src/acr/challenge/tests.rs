//! Challenges, and what a bearer token opens.

use super::*;
use crate::{
    ChallengeService, Service, State,
    acr::credentials::{Holder, access_token, refresh_token},
    scene::sample::{self, CLIENT, HOST, OBJECT, scene, state},
};

const REGIONAL: &str = "demo.eastus.geo.azurecr.io";

fn stocked() -> State {
    let mut state = state();
    state.registries[0]
        .repositories
        .insert("team/app".to_owned(), vec!["v1".to_owned()]);
    state.registries[0].aliases.push(REGIONAL.to_owned());
    state
}

fn holder() -> Holder {
    Holder {
        object_id: OBJECT.to_owned(),
        client_id: CLIENT.to_owned(),
    }
}

fn token_for(state: &State, scope: &str) -> String {
    let draw = sample::draw();
    let scopes = [scope.parse().unwrap()];
    access_token(
        &holder(),
        &scopes,
        None,
        &state.registries[0],
        HOST,
        &scene(state, &draw),
    )
    .0
}

fn ask(state: &State, url: &str, token: Option<&str>) -> Answer {
    let mut request = Request::sample(Service::Acr, url, &[]);
    if let Some(token) = token {
        request
            .headers
            .insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let draw = sample::draw();
    let (registry, scene) = (&state.registries[0], scene(state, &draw));
    answer(&request, registry, &scene, &mut Steps::default())
        .unwrap_or_else(|refusal| refusal.answer(registry, &request, &scene))
}

fn challenge(answer: &Answer) -> &str {
    assert_eq!(answer.status, 401);
    answer.headers["www-authenticate"].to_str().unwrap()
}

fn url(path: &str) -> String {
    format!("https://{HOST}{path}")
}

#[test]
fn challenge_has_the_scope_of_the_path() {
    let state = stocked();
    let scope_of = |path: &str| {
        let answer = ask(&state, &url(path), None);
        challenge(&answer)
            .split_once(",scope=")
            .map(|(_, scope)| scope.to_owned())
    };
    assert_eq!(scope_of("/v2/"), None);
    assert_eq!(
        scope_of("/v2/_catalog").as_deref(),
        Some(r#""registry:catalog:*""#)
    );
    assert_eq!(
        scope_of("/v2/team/app/manifests/v1").as_deref(),
        Some(r#""repository:team/app:pull""#)
    );
    let body = ask(&state, &url("/v2/team/app/manifests/v1"), None).value();
    let detail = json!([{"Type": "repository", "Name": "team/app", "Action": "pull"}]);
    assert_eq!(body["errors"][0]["detail"], detail);
}

#[test]
fn challenge_of_a_regional_host_follows_the_switch() {
    let mut state = stocked();
    let service = |state: &State| challenge(&ask(state, &format!("https://{REGIONAL}/v2/"), None)).to_owned();
    let global = format!(r#"Bearer realm="https://{REGIONAL}/oauth2/token",service="{HOST}""#);
    assert_eq!(service(&state), global);
    state.registries[0].switches.challenge_service = ChallengeService::Host;
    assert_eq!(
        service(&state),
        global.replace(
            &format!(r#"service="{HOST}""#),
            &format!(r#"service="{REGIONAL}""#)
        )
    );
}

#[test]
fn token_opens_its_scope_and_no_other() {
    let state = stocked();
    let token = token_for(&state, "repository:team/app:pull");
    assert_eq!(ask(&state, &url("/v2/"), Some(&token)).status, 200);
    assert_eq!(
        ask(&state, &url("/v2/team/app/manifests/v1"), Some(&token)).status,
        200
    );
    let other = ask(&state, &url("/v2/team/other/manifests/v1"), Some(&token));
    assert!(!challenge(&other).contains("invalid_token"));
    assert_eq!(ask(&state, &url("/v2/_catalog"), Some(&token)).status, 401);
    let catalog = ask(
        &state,
        &url("/v2/_catalog"),
        Some(&token_for(&state, "registry:catalog:*")),
    );
    assert_eq!(catalog.value()["repositories"], json!(["team/app"]));
}

#[test]
fn token_that_is_no_access_token_of_this_registry_is_invalid() {
    let state = stocked();
    let draw = sample::draw();
    let refresh = refresh_token(&holder(), &state.registries[0], HOST, &scene(&state, &draw)).0;
    for token in ["rubbish", refresh.as_str()] {
        assert!(challenge(&ask(&state, &url("/v2/"), Some(token))).contains(r#"error="invalid_token""#));
    }
}

#[test]
fn name_or_tag_that_is_not_there_is_404() {
    let state = stocked();
    let code = |name: &str, tag: &str| {
        let token = token_for(&state, &format!("repository:{name}:pull"));
        let answer = ask(&state, &url(&format!("/v2/{name}/manifests/{tag}")), Some(&token));
        (
            answer.status.as_u16(),
            answer.value()["errors"][0]["code"].clone(),
        )
    };
    assert_eq!(code("nothing", "v1"), (404, json!("NAME_UNKNOWN")));
    assert_eq!(code("team/app", "v2"), (404, json!("MANIFEST_UNKNOWN")));
}
