//! Both ways to an access token: what each refuses, and every switch at every value.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::*;
use crate::{
    RegistrySwitches, RoleMode, Service, State,
    acr::credentials::refresh_token,
    jwt::Parsed,
    scene::sample::{self, CLIENT, HOST, NOW, OBJECT, scene, state},
};

const PULL: &str = "repository:team/app:pull";

fn refresh(state: &State) -> String {
    let holder = Holder {
        object_id: OBJECT.to_owned(),
        client_id: CLIENT.to_owned(),
    };
    let draw = sample::draw();
    refresh_token(&holder, &state.registries[0], HOST, &scene(state, &draw)).0
}

fn decide(state: &State, request: &Request, basic: bool) -> Answer {
    let draw = sample::draw();
    let (registry, scene) = (&state.registries[0], scene(state, &draw));
    let mut steps = Steps::default();
    let way = if basic { by_basic } else { by_form };
    way(request, registry, &scene, &mut steps)
        .unwrap_or_else(|refusal| refusal.answer(registry, request, &scene))
        .after(steps)
}

fn post(state: &State, form: &[(&str, &str)]) -> Answer {
    decide(
        state,
        &Request::sample(Service::Acr, &format!("https://{HOST}/oauth2/token"), form),
        false,
    )
}

fn post_refresh(state: &State, token: &str, scopes: &[&str]) -> Answer {
    let mut form = vec![
        ("grant_type", "refresh_token"),
        ("service", HOST),
        ("refresh_token", token),
    ];
    form.extend(scopes.iter().map(|scope| ("scope", *scope)));
    post(state, &form)
}

fn get(state: &State, query: &str, credentials: Option<(&str, &str)>) -> Answer {
    let url = format!("https://{HOST}/oauth2/token?{query}");
    let mut request = Request::sample(Service::Acr, &url, &[]);
    if let Some((user, password)) = credentials {
        let value = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        request.headers.insert("authorization", value.parse().unwrap());
    }
    decide(state, &request, true)
}

fn issued(answer: &Answer) -> Parsed {
    assert_eq!(answer.status, 200, "{:?}", answer.trace);
    Parsed::parse(answer.value()["access_token"].as_str().unwrap()).unwrap()
}

fn ended(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.trace.last().unwrap())
}

#[test]
fn refresh_token_gives_an_access_token_for_the_scope() {
    let state = state();
    let token = issued(&post_refresh(&state, &refresh(&state), &[PULL]));
    assert_eq!(
        token.claims["access"],
        json!([{"type": "repository", "name": "team/app", "actions": ["pull"]}])
    );
    assert_eq!(token.time("exp").unwrap() - token.time("nbf").unwrap(), 4_500);
    assert!(token.is_for(HOST));
}

#[test]
fn scopes_may_be_repeated_and_separated_by_blanks() {
    let state = state();
    let scopes = ["repository:a:pull repository:b:pull", "repository:c:pull"];
    let token = issued(&post_refresh(&state, &refresh(&state), &scopes));
    assert_eq!(token.claims["access"].as_array().unwrap().len(), 3);
}

#[test]
fn grant_or_scope_missing_is_an_empty_400() {
    let state = state();
    let refresh = refresh(&state);
    assert_eq!(
        ended(&post(&state, &[("service", HOST)])),
        (400, "grant type refused")
    );
    let answer = post_refresh(&state, &refresh, &[]);
    assert_eq!(ended(&answer), (400, "scope refused"));
    assert!(answer.body.is_empty());
    assert_eq!(
        ended(&post_refresh(&state, &refresh, &["rubbish"])),
        (400, "scope refused")
    );
}

#[test]
fn refresh_token_that_is_no_good_is_refused() {
    let mut state = state();
    let refused = (401, "refresh token refused");
    assert_eq!(ended(&post_refresh(&state, "rubbish", &[PULL])), refused);
    let good = refresh(&state);
    let access_token = issued_text(&post_refresh(&state, &good, &[PULL]));
    assert_eq!(
        ended(&post_refresh(&state, &access_token, &[PULL])),
        refused,
        "an access token does not refresh"
    );
    state.registries[0].switch_mode(RoleMode::RbacAbac);
    assert_eq!(
        ended(&post_refresh(&state, &good, &[PULL])),
        refused,
        "issued under another role mode"
    );
    state.registries[0].mode_epoch = 0;
    state.registries[0].host = "other.azurecr.io".to_owned();
    assert_eq!(
        ended(&post_refresh(&state, &good, &[PULL])),
        refused,
        "of another registry"
    );
    let mut expired = sample::state();
    expired.short_lived.refresh_s = Some(0);
    assert_eq!(
        ended(&post_refresh(&expired, &refresh(&expired), &[PULL])),
        refused
    );
}

fn issued_text(answer: &Answer) -> String {
    answer.value()["access_token"].as_str().unwrap().to_owned()
}

#[test]
fn service_must_be_the_registry_or_an_alias() {
    let mut state = state();
    let refresh = refresh(&state);
    let ask = |state: &State, service: &str| {
        let form = [
            ("grant_type", "refresh_token"),
            ("service", service),
            ("refresh_token", refresh.as_str()),
            ("scope", PULL),
        ];
        post(state, &form).status.as_u16()
    };
    let regional = "demo.eastus.geo.azurecr.io";
    assert_eq!(
        (ask(&state, "other.azurecr.io"), ask(&state, regional)),
        (401, 401)
    );
    state.registries[0].aliases.push(regional.to_owned());
    assert_eq!(ask(&state, regional), 200);
}

#[test]
fn scope_beyond_the_role_follows_the_switch() {
    let mut state = state();
    let refresh = refresh(&state);
    let push = ["repository:team/app:pull,push"];
    assert_eq!(
        ended(&post_refresh(&state, &refresh, &push)),
        (401, "permission refused")
    );
    state.registries[0].switches.insufficient_scope = InsufficientScope::Deny403;
    assert_eq!(post_refresh(&state, &refresh, &push).status, 403);
    state.registries[0].switches.insufficient_scope = InsufficientScope::Reduced200;
    let reduced = issued(&post_refresh(&state, &refresh, &push));
    assert_eq!(reduced.claims["access"][0]["actions"], json!(["pull"]));
    let nothing = issued(&post_refresh(&state, &refresh, &["repository:*:pull"]));
    assert_eq!(nothing.claims["access"], json!([]), "wildcards do not work");
}

#[test]
fn role_revoked_counts_for_refresh_tokens_issued_before() {
    let mut state = state();
    let refresh = refresh(&state);
    state.registries[0].roles.clear();
    assert_eq!(post_refresh(&state, &refresh, &[PULL]).status, 401);
}

#[test]
fn password_grant_follows_the_switch() {
    let mut state = state();
    let refresh = refresh(&state);
    let form = [
        ("grant_type", "password"),
        ("username", NULL_GUID),
        ("password", refresh.as_str()),
        ("service", HOST),
        ("scope", PULL),
    ];
    let answer = post(&state, &form);
    assert_eq!((answer.status.as_u16(), answer.body.is_empty()), (400, true));
    let mut status = |password_grant| {
        state.registries[0].switches = RegistrySwitches {
            password_grant,
            ..RegistrySwitches::default()
        };
        post(&state, &form).status.as_u16()
    };
    assert_eq!(
        (status(PasswordGrant::Unauthorized), status(PasswordGrant::Accept)),
        (401, 200)
    );
}

#[test]
fn anonymous_callers_get_a_token_where_that_is_on() {
    let mut state = state();
    let query = format!("service={HOST}&scope={PULL}");
    let form = [("grant_type", "password"), ("service", HOST), ("scope", PULL)];
    assert_eq!(
        (
            get(&state, &query, None).status.as_u16(),
            post(&state, &form).status.as_u16()
        ),
        (401, 401)
    );
    state.registries[0].anonymous_pull = true;
    issued(&get(&state, &query, None));
    issued(&post(&state, &form));
    let push = format!("service={HOST}&scope=repository:team/app:push");
    assert_eq!(get(&state, &push, None).status, 401);
}

#[test]
fn basic_takes_the_null_guid_with_a_refresh_token() {
    let state = state();
    let refresh = refresh(&state);
    let query = format!("service={HOST}&scope={PULL}");
    issued(&get(&state, &query, Some((NULL_GUID, &refresh))));
    let without_scope = issued(&get(
        &state,
        &format!("service={HOST}"),
        Some((NULL_GUID, &refresh)),
    ));
    assert_eq!(without_scope.claims["access"], json!([]));
    for credentials in [("someone", refresh.as_str()), (NULL_GUID, "rubbish")] {
        let answer = get(&state, &query, Some(credentials));
        assert_eq!(ended(&answer), (401, "basic refused"));
        assert!(
            answer.headers["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Basic ")
        );
    }
}

#[test]
fn access_token_as_basic_password_follows_the_switch() {
    let mut state = state();
    let refresh = refresh(&state);
    state.short_lived.access_s = Some(100);
    let access_token = issued_text(&post_refresh(&state, &refresh, &[PULL]));
    state.short_lived.access_s = Some(500);
    let mut ask = |value, scope: &str| {
        state.registries[0].switches.access_token_as_basic = value;
        get(
            &state,
            &format!("service={HOST}&scope={scope}"),
            Some((NULL_GUID, &access_token)),
        )
    };
    let same = issued(&ask(AccessTokenAsBasic::ReissueSameExp, PULL));
    assert_eq!(same.time("exp"), Some(NOW + 100));
    let fresh = issued(&ask(AccessTokenAsBasic::ReissueFresh, PULL));
    assert_eq!(fresh.time("exp"), Some(NOW + 500));
    assert_eq!(ask(AccessTokenAsBasic::Reject401, PULL).status, 401);
    let other = ask(AccessTokenAsBasic::ReissueFresh, "repository:team/other:pull");
    assert_eq!(
        ended(&other),
        (401, "permission refused"),
        "no more than the token itself has"
    );
}
