//! One test for each refusal of the token endpoint, in its order, and the answer when there is none.

mod applications;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    State,
    jwt::unsigned,
    scene::sample::{
        self, AUDIENCE, CLIENT, ISSUER, KEYS, NOW, OBJECT, SUBJECT, TENANT, assertion, issuer_jwks, scene,
        state,
    },
};

const URL: &str = "https://login.microsoftonline.com/11111111-0000-0000-0000-000000000001/oauth2/v2.0/token";

/// The form that is granted, with one parameter replaced; an empty value leaves it out.
fn form<'a>(assertion: &'a str, replaced: (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    let usual = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
        (
            "scope",
            "https://containerregistry.azure.net/.default openid offline_access profile",
        ),
    ];
    let (name, value) = replaced;
    let replace = |(key, usual)| (key, if key == name { value } else { usual });
    usual
        .into_iter()
        .map(replace)
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

fn ask(state: &State, url: &str, form: &[(&str, &str)]) -> Answer {
    let draw = sample::draw();
    token(
        &Request::sample(crate::Service::Entra, url, form),
        &Ok(issuer_jwks()),
        &scene(state, &draw),
    )
}

/// Status, `error` and AADSTS code.
fn refusal(answer: &Answer) -> (u16, String, u64) {
    let body = answer.value();
    let code = body["error_codes"][0].as_u64().unwrap();
    let description = body["error_description"].as_str().unwrap();
    assert!(
        description.starts_with(&format!("AADSTS{code}: ")),
        "{description}"
    );
    (
        answer.status.as_u16(),
        body["error"].as_str().unwrap().to_owned(),
        code,
    )
}

fn refused_with(replaced: (&str, &str)) -> (u16, String, u64) {
    refusal(&ask(&state(), URL, &form(&assertion(|_| ()), replaced)))
}

fn refused_assertion(change: impl FnOnce(&mut Value)) -> (u16, String, u64) {
    refusal(&ask(&state(), URL, &form(&assertion(change), ("", ""))))
}

fn expected(status: u16, error: &str, code: u64) -> (u16, String, u64) {
    (status, error.to_owned(), code)
}

#[test]
fn token_for_a_fitting_assertion_is_granted() {
    let state = state();
    let answer = ask(&state, URL, &form(&assertion(|_| ()), ("", "")));
    assert_eq!(answer.status, 200, "{:?}", answer.value());
    let body = answer.value();
    assert_eq!(
        (body["token_type"].as_str(), body["expires_in"].as_i64()),
        (Some("Bearer"), Some(4_500))
    );
    assert!(body.get("refresh_in").is_none(), "only from two hours on");
    let token = Parsed::parse(body["access_token"].as_str().unwrap()).unwrap();
    assert!(KEYS.entra.signed(&token) && token.is_for("https://containerregistry.azure.net"));
    assert_eq!(
        (token.claim("oid"), token.claim("appid"), token.claim("tid")),
        (Some(OBJECT), Some(CLIENT), Some(TENANT))
    );
    assert_eq!(
        (token.time("nbf"), token.time("exp")),
        (Some(NOW - 300), Some(NOW + 4_500))
    );
    assert_eq!(answer.issued.len(), 1);
}

#[test]
fn token_that_lives_long_says_when_to_refresh() {
    let mut state = state();
    state.principals[0].token_ttl_s = Some(7_200);
    let body = ask(&state, URL, &form(&assertion(|_| ()), ("", ""))).value();
    assert_eq!(body["refresh_in"], 3_600);
}

#[test]
fn request_that_is_no_form_post_is_refused() {
    assert_eq!(ask(&state(), URL, &[]).status, 405);
    let mut request = Request::sample(crate::Service::Entra, URL, &form("x", ("", "")));
    request.headers.remove(header::CONTENT_TYPE);
    let (state, draw) = (state(), sample::draw());
    let answer = token(&request, &Ok(issuer_jwks()), &scene(&state, &draw));
    assert_eq!(refusal(&answer), expected(400, "invalid_request", 900_144));
}

#[test]
fn tenant_unknown_or_of_another_cloud_is_refused() {
    let form = form("x", ("", ""));
    let unknown = ask(
        &state(),
        "https://login.microsoftonline.com/nowhere/oauth2/v2.0/token",
        &form,
    );
    assert_eq!(refusal(&unknown), expected(400, "invalid_request", 90002));
    let foreign = URL.replace("login.microsoftonline.com", "login.microsoftonline.us");
    assert_eq!(
        refusal(&ask(&state(), &foreign, &form)),
        expected(400, "invalid_request", 90038)
    );
}

#[test]
fn parameter_missing_or_wrong_is_refused() {
    for name in [
        "grant_type",
        "client_id",
        "client_assertion_type",
        "client_assertion",
        "scope",
    ] {
        assert_eq!(
            refused_with((name, "")),
            expected(400, "invalid_request", 900_144),
            "{name}"
        );
    }
    assert_eq!(
        refused_with(("grant_type", "password")),
        expected(400, "invalid_request", 9_002_313)
    );
}

#[test]
fn assertion_that_is_no_rs256_jwt_is_refused() {
    assert_eq!(
        refused_with(("client_assertion", "a.b")),
        expected(400, "invalid_request", 50027)
    );
    let none = unsigned(&json!({"iss": ISSUER}));
    assert_eq!(
        refused_with(("client_assertion", &none)),
        expected(400, "invalid_request", 5_002_738)
    );
    let key = KEYS.of_issuer(ISSUER, "k1").unwrap();
    let typed = key.sign_with_header(&json!({"alg": "RS256", "typ": "at+jwt"}), &json!({}));
    assert_eq!(
        refused_with(("client_assertion", &typed)),
        expected(400, "invalid_request", 5_002_727)
    );
}

#[test]
fn principal_unknown_or_without_service_principal_is_refused() {
    assert_eq!(
        refused_with(("client_id", "nobody")),
        expected(400, "unauthorized_client", 700_016)
    );
    let mut state = state();
    state.principals[0].enabled = false;
    let answer = ask(&state, URL, &form(&assertion(|_| ()), ("", "")));
    assert_eq!(refusal(&answer), expected(401, "invalid_client", 7_000_229));
}

#[test]
fn credential_is_matched_by_issuer_then_audience_then_subject() {
    let all_wrong = |claims: &mut Value| {
        claims["iss"] = json!("https://other/");
        claims["aud"] = json!(["other"]);
        claims["sub"] = json!("other");
    };
    assert_eq!(
        refused_assertion(all_wrong),
        expected(401, "invalid_client", 700_211)
    );
    let two_wrong = |claims: &mut Value| {
        claims["aud"] = json!(["other"]);
        claims["sub"] = json!("other");
    };
    assert_eq!(
        refused_assertion(two_wrong),
        expected(401, "invalid_client", 700_212)
    );
    assert_eq!(
        refused_assertion(|claims| claims["sub"] = json!("other")),
        expected(401, "invalid_client", 700_213)
    );
    assert_eq!(
        refused_assertion(|claims| claims["sub"] = json!(SUBJECT.to_uppercase())),
        expected(401, "invalid_client", 7_002_138)
    );
    let no_slash = |claims: &mut Value| claims["iss"] = json!(ISSUER.trim_end_matches('/'));
    assert_eq!(
        refused_assertion(no_slash),
        expected(401, "invalid_client", 700_211)
    );
}

#[test]
fn credential_not_visible_yet_is_not_found() {
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    let mut state = state();
    let status = |state: &State| {
        ask(state, URL, &form(&assertion(|_| ()), ("", "")))
            .status
            .as_u16()
    };
    state.principals[0].fics[0].visible_at = at(NOW + 1);
    assert_eq!(status(&state), 401);
    state.principals[0].fics[0].visible_at = at(NOW);
    assert_eq!(status(&state), 200);
    // The coin of the sample is 0.5: nodes that do not have it yet.
    state.principals[0].fics[0].flaky_until = at(NOW + 1);
    assert_eq!(status(&state), 401);
    state.principals[0].fics[0].flaky_until = at(NOW);
    assert_eq!(status(&state), 200);
}

#[test]
fn signature_that_does_not_verify_is_refused() {
    let foreign = KEYS.of_issuer("https://another.example/", "k1").unwrap();
    let claims = json!({"iss": ISSUER, "sub": SUBJECT, "aud": [AUDIENCE], "exp": NOW + 600});
    let forged = foreign.sign(&claims);
    assert_eq!(
        refused_with(("client_assertion", &forged)),
        expected(401, "invalid_client", 700_027)
    );
}

#[test]
fn issuer_whose_keys_cannot_be_had_is_refused() {
    let (state, draw) = (state(), sample::draw());
    let assertion = assertion(|_| ());
    let request = Request::sample(crate::Service::Entra, URL, &form(&assertion, ("", "")));
    let answer = token(&request, &Err("no route".to_owned()), &scene(&state, &draw));
    assert_eq!(refusal(&answer), expected(400, "invalid_request", 50166));
    assert!(
        answer.trace.contains(&"no route".to_owned()),
        "{:?}",
        answer.trace
    );
}

#[test]
fn assertion_outside_its_validity_is_refused_beyond_the_skew() {
    let expired_by = |seconds: i64| {
        let assertion = assertion(|claims| claims["exp"] = json!(NOW - seconds));
        ask(&state(), URL, &form(&assertion, ("", ""))).status.as_u16()
    };
    assert_eq!((expired_by(299), expired_by(300)), (200, 401));
    let early = |claims: &mut Value| claims["nbf"] = json!(NOW + 301);
    assert_eq!(refused_assertion(early), expected(401, "invalid_client", 700_024));
    let endless = |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove("exp"));
    assert_eq!(
        refused_assertion(endless),
        expected(401, "invalid_client", 700_024)
    );
}

#[test]
fn scope_malformed_or_for_two_resources_is_refused() {
    for scope in ["openid", "https://containerregistry.azure.net", "/.default"] {
        assert_eq!(
            refused_with(("scope", scope)),
            expected(400, "invalid_scope", 70011),
            "{scope}"
        );
    }
    let two = "https://containerregistry.azure.net/.default https://management.azure.com/.default";
    assert_eq!(
        refused_with(("scope", two)),
        expected(400, "invalid_scope", 700_022)
    );
}

#[test]
fn audience_unknown_is_refused_as_the_cloud_does() {
    assert_eq!(
        refused_with(("scope", "https://x/.default")),
        expected(400, "invalid_resource", 500_011)
    );
    let mut state = state();
    state.clouds[0].disconnected = true;
    let answer = ask(
        &state,
        URL,
        &form(&assertion(|_| ()), ("scope", "https://x/.default")),
    );
    assert_eq!(refusal(&answer), expected(400, "invalid_resource", 50001));
}

#[test]
fn audience_keeps_its_trailing_slash() {
    let scope = "https://management.core.windows.net//.default";
    let answer = ask(&state(), URL, &form(&assertion(|_| ()), ("scope", scope)));
    let token = Parsed::parse(answer.value()["access_token"].as_str().unwrap()).unwrap();
    assert!(token.is_for("https://management.core.windows.net/"));
}

#[test]
fn unverified_error_shapes_are_switches() {
    let mut state = state();
    state.clouds[0].error_status.insert(700_213, 400);
    state.clouds[0].legacy_crlf_errors = true;
    let assertion = assertion(|claims| claims["sub"] = json!("other"));
    let answer = ask(&state, URL, &form(&assertion, ("", "")));
    assert_eq!(refusal(&answer).0, 400);
    let body = answer.value();
    assert!(
        body["error_description"]
            .as_str()
            .unwrap()
            .contains("\r\nTrace ID: request-1\r\nCorrelation ID: ")
    );
}
