//! One test for each refusal of the metadata service, and its token cache.

use super::*;
use crate::{
    Principal, Service, State,
    jwt::Parsed,
    scene::sample::{self, NOW, TENANT, scene},
};

const RESOURCE: &str = "resource=https://containerregistry.azure.net";

fn state() -> State {
    State::default()
        .with_tenant(TENANT)
        .with_vm_identity(Principal::user_assigned(
            TENANT,
            "client-1",
            "object-1",
            "/subscriptions/s/one",
        ))
}

fn two_identities() -> State {
    state().with_vm_identity(Principal::user_assigned(
        TENANT,
        "client-2",
        "object-2",
        "/subscriptions/s/two",
    ))
}

fn request(query: &str) -> Request {
    let url = format!("http://169.254.169.254/metadata/identity/oauth2/token?{query}");
    let mut request = Request::sample(Service::Imds, &url, &[]);
    request.headers.insert("metadata", "true".parse().unwrap());
    request
}

fn ask_at(state: &State, memory: &Memory, request: &Request, (in_flight, now): (u64, i64)) -> Answer {
    let draw = sample::draw();
    let scene = Scene {
        now: Timestamp::from_second(now).unwrap(),
        ..scene(state, &draw)
    };
    answer(request, memory, (in_flight, scene.now), &scene)
}

fn ask(state: &State, query: &str) -> Answer {
    ask_at(
        state,
        &Memory::default(),
        &request(&format!("api-version=2018-02-01&{query}")),
        (1, NOW),
    )
}

fn refusal(answer: &Answer) -> (u16, String) {
    (
        answer.status.as_u16(),
        answer.value()["error"].as_str().unwrap().to_owned(),
    )
}

fn client_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{:?}", answer.value());
    let body = answer.value();
    let token = Parsed::parse(body["access_token"].as_str().unwrap()).unwrap();
    assert_eq!(token.claim("appid"), body["client_id"].as_str());
    token.claim("appid").unwrap().to_owned()
}

#[test]
fn token_has_numbers_as_text() {
    let answer = ask(&state(), RESOURCE);
    let body = answer.value();
    assert_eq!(body["expires_in"], "86400");
    assert_eq!(body["expires_on"], (NOW + 86_400).to_string());
    assert_eq!(
        (&body["resource"], &body["token_type"]),
        (&json!("https://containerregistry.azure.net"), &json!("Bearer"))
    );
}

#[test]
fn header_missing_is_refused() {
    let mut request = request(&format!("api-version=2018-02-01&{RESOURCE}"));
    request.headers.remove("metadata");
    let answer = ask_at(&state(), &Memory::default(), &request, (1, NOW));
    assert_eq!(refusal(&answer), (400, "bad_request_102".to_owned()));
}

#[test]
fn request_forwarded_is_refused_unless_switched_off() {
    let mut request = request(&format!("api-version=2018-02-01&{RESOURCE}"));
    request
        .headers
        .insert("x-forwarded-for", "10.0.0.1".parse().unwrap());
    let mut state = state();
    let status = |state: &State| {
        ask_at(state, &Memory::default(), &request, (1, NOW))
            .status
            .as_u16()
    };
    assert_eq!(status(&state), 400);
    state.vm.refuse_forwarded = false;
    assert_eq!(status(&state), 200);
}

#[test]
fn version_too_old_is_refused_and_a_newer_one_is_not() {
    let status = |version: &str| {
        let request = request(&format!("api-version={version}&{RESOURCE}"));
        ask_at(&state(), &Memory::default(), &request, (1, NOW))
            .status
            .as_u16()
    };
    assert_eq!(
        (status("2017-09-01"), status("2018-02-01"), status("2019-08-01")),
        (400, 200, 200)
    );
}

#[test]
fn resource_missing_or_unknown_is_refused() {
    assert_eq!(refusal(&ask(&state(), "")), (400, "invalid_resource".to_owned()));
    assert_eq!(
        refusal(&ask(&state(), "resource=https://x")),
        (400, "invalid_resource".to_owned())
    );
}

#[test]
fn requests_beyond_the_limits_are_throttled() {
    let request = request(&format!("api-version=2018-02-01&{RESOURCE}"));
    let (mut state, memory) = (state(), Memory::default());
    assert_eq!(ask_at(&state, &memory, &request, (6, NOW)).status, 429);
    state.vm.imds_rps = 2;
    state.vm.throttle_retry_after_s = Some(3);
    let statuses: Vec<u16> = (0..3)
        .map(|_| ask_at(&state, &memory, &request, (1, NOW)).status.as_u16())
        .collect();
    assert_eq!(statuses, [200, 200, 429]);
    let throttled = ask_at(&state, &memory, &request, (1, NOW));
    assert_eq!(throttled.headers[header::RETRY_AFTER], "3");
    assert_eq!(ask_at(&state, &memory, &request, (1, NOW + 1)).status, 200);
}

#[test]
fn identity_is_selected_by_each_name() {
    let state = two_identities();
    for selector in [
        "client_id=client-2",
        "object_id=object-2",
        "msi_res_id=/SUBSCRIPTIONS/s/two",
        "mi_res_id=/subscriptions/s/two",
    ] {
        assert_eq!(
            client_of(&ask(&state, &format!("{RESOURCE}&{selector}"))),
            "client-2",
            "{selector}"
        );
    }
}

#[test]
fn identity_that_the_machine_does_not_have_is_refused() {
    let mut state = two_identities();
    state.vm.user_assigned.pop();
    let answer = ask(&state, &format!("{RESOURCE}&client_id=client-2"));
    assert_eq!(answer.value()["error_description"], "Identity not found");
}

#[test]
fn identity_not_named_is_the_only_one_or_refused() {
    assert_eq!(client_of(&ask(&state(), RESOURCE)), "client-1");
    let several = ask(&two_identities(), RESOURCE);
    let text = several.value()["error_description"].as_str().unwrap().to_owned();
    assert!(
        text.starts_with("Multiple user assigned identities exist"),
        "{text}"
    );
    let mut strict = state();
    strict.vm.single_identity_is_default = false;
    assert_eq!(
        ask(&strict, RESOURCE).value()["error_description"],
        "Identity not found"
    );
    let mut system = two_identities();
    system.vm.user_assigned.pop();
    system.vm.system_assigned = Some("object-2".to_owned());
    assert_eq!(client_of(&ask(&system, RESOURCE)), "client-2");
}

#[test]
fn token_is_cached_until_its_margin() {
    let request = request(&format!("api-version=2018-02-01&{RESOURCE}"));
    let (mut state, memory) = (state(), Memory::default());
    let token = |state: &State, now| {
        let body = ask_at(state, &memory, &request, (1, now)).value();
        (body["expires_on"].clone(), body["expires_in"].clone())
    };
    let first = token(&state, NOW).0;
    assert_eq!(token(&state, NOW + 60), (first.clone(), json!("86340")));
    state.vm.expires_in = ExpiresIn::Lifetime;
    assert_eq!(token(&state, NOW + 60).1, "86400");
    assert_ne!(token(&state, NOW + 86_400 - 300).0, first);
}

#[test]
fn token_for_entra_itself_is_issued_by_the_tenant_and_is_of_no_use_elsewhere() {
    let answer = ask(&state(), "resource=api://AzureADTokenExchange");
    assert_eq!(answer.status, 200, "{:?}", answer.value());
    let token = Parsed::parse(answer.value()["access_token"].as_str().unwrap()).unwrap();
    let issuer = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
    assert_eq!(
        (token.claim("iss"), token.claim("sub"), token.claim("azp")),
        (Some(issuer.as_str()), Some("object-1"), Some("client-1"))
    );
    assert!(token.is_for("api://AzureADTokenExchange"));
    // The audience of another cloud is none here, and a made-up one is none anywhere.
    assert_eq!(
        refusal(&ask(&state(), "resource=api://NobodysTokenExchange")),
        (400, "invalid_resource".to_owned())
    );
}
