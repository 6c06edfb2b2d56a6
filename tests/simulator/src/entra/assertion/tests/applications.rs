//! Applications that are present in two tenants, and managed identities that become them.

use super::*;
use crate::{
    Principal,
    entra::access_token::{Obtained, issue},
};

const OTHER_TENANT: &str = "11111111-0000-0000-0000-00000000000b";
const OTHER_OBJECT: &str = "33333333-0000-0000-0000-00000000000b";
const MACHINE_CLIENT: &str = "22222222-0000-0000-0000-00000000000a";
const MACHINE_OBJECT: &str = "33333333-0000-0000-0000-00000000000a";
const EXCHANGE: &str = "api://AzureADTokenExchange";

fn url_of(tenant: &str) -> String {
    format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token")
}

fn entra_issuer() -> String {
    format!("https://login.microsoftonline.com/{TENANT}/v2.0")
}

/// The application of the sample, present in another tenant as well, and a managed identity of its home that it trusts.
fn two_tenants() -> State {
    let mut state = state()
        .with_tenant(OTHER_TENANT)
        .with_principal(Principal::of_application(
            TENANT,
            OTHER_TENANT,
            CLIENT,
            OTHER_OBJECT,
        ))
        .with_principal(Principal::user_assigned(
            TENANT,
            MACHINE_CLIENT,
            MACHINE_OBJECT,
            "/subscriptions/s/machine",
        ));
    let app = state.principals[0].clone();
    state.principals[0] = app.federated(&entra_issuer(), MACHINE_OBJECT, EXCHANGE);
    assert_eq!(state.check(), Ok(()));
    state
}

/// What the metadata service, or Entra, gives the managed identity for `audience`.
fn own_token(state: &State, audience: &str, obtained: Obtained) -> String {
    let draw = sample::draw();
    let machine = state
        .principals
        .iter()
        .find(|principal| principal.client_id == MACHINE_CLIENT)
        .unwrap();
    issue(machine, audience, obtained, &scene(state, &draw)).token
}

/// Shows Entra one of its own tokens, in a tenant.
fn become_application(state: &State, tenant: &str, assertion: &str) -> Answer {
    let draw = sample::draw();
    let request = Request::sample(crate::Service::Entra, &url_of(tenant), &form(assertion, ("", "")));
    token(&request, &Ok(KEYS.entra_jwks()), &scene(state, &draw))
}

fn holder(answer: &Answer) -> (String, String, String) {
    let body = answer.value();
    assert_eq!(answer.status, 200, "{body:?}");
    let token = Parsed::parse(body["access_token"].as_str().unwrap()).unwrap();
    let claim = |name| token.claim(name).unwrap().to_owned();
    (claim("oid"), claim("appid"), claim("tid"))
}

#[test]
fn application_is_another_object_in_each_tenant_and_trusts_whom_it_trusts_at_home() {
    let state = two_tenants();
    let service_account = assertion(|_| ());
    for (tenant, object) in [(TENANT, OBJECT), (OTHER_TENANT, OTHER_OBJECT)] {
        let answer = ask(&state, &url_of(tenant), &form(&service_account, ("", "")));
        assert_eq!(
            holder(&answer),
            (object.to_owned(), CLIENT.to_owned(), tenant.to_owned())
        );
    }
    let mut state = state;
    state.principals[0].fics.clear();
    let answer = ask(&state, &url_of(OTHER_TENANT), &form(&service_account, ("", "")));
    assert_eq!(refusal(&answer), expected(401, "invalid_client", 700_211));
}

#[test]
fn application_without_a_service_principal_in_the_tenant_is_not_found_there() {
    let state = state().with_tenant(OTHER_TENANT);
    let answer = ask(&state, &url_of(OTHER_TENANT), &form(&assertion(|_| ()), ("", "")));
    assert_eq!(refusal(&answer), expected(400, "unauthorized_client", 700_016));
}

#[test]
fn managed_identity_becomes_the_application_that_trusts_it() {
    let state = two_tenants();
    let own = own_token(&state, EXCHANGE, Obtained::Metadata);
    for (tenant, object) in [(TENANT, OBJECT), (OTHER_TENANT, OTHER_OBJECT)] {
        let answer = become_application(&state, tenant, &own);
        assert_eq!(
            holder(&answer),
            (object.to_owned(), CLIENT.to_owned(), tenant.to_owned())
        );
    }
}

#[test]
fn managed_identity_is_compared_by_issuer_audience_and_object_id() {
    let own = |state: &State| own_token(state, EXCHANGE, Obtained::Metadata);
    for (issuer, subject, audience, code) in [
        (
            "https://login.microsoftonline.com/common/v2.0",
            MACHINE_OBJECT,
            EXCHANGE,
            700_211,
        ),
        (
            entra_issuer().as_str(),
            MACHINE_OBJECT,
            "api://AzureADTokenExchangeChina",
            700_212,
        ),
        // Its client id is not what it is known by.
        (entra_issuer().as_str(), MACHINE_CLIENT, EXCHANGE, 700_213),
        (
            entra_issuer().as_str(),
            &MACHINE_OBJECT.to_uppercase(),
            EXCHANGE,
            7_002_138,
        ),
    ] {
        let mut state = two_tenants();
        state.principals[0].fics.clear();
        let app = state.principals[0].clone();
        state.principals[0] = app.federated(issuer, subject, audience);
        let answer = become_application(&state, TENANT, &own(&state));
        assert_eq!(
            refusal(&answer),
            expected(401, "invalid_client", code),
            "{issuer} {subject}"
        );
    }
    // A token for registries is not one for Entra.
    let state = two_tenants();
    let for_registries = own_token(&state, crate::state::ACR_AUDIENCE, Obtained::Metadata);
    let answer = become_application(&state, TENANT, &for_registries);
    assert_eq!(refusal(&answer), expected(401, "invalid_client", 700_211));
}

#[test]
fn token_that_came_out_of_a_federated_credential_is_no_credential_again() {
    let state = two_tenants();
    let second_hand = own_token(&state, EXCHANGE, Obtained::Federation);
    let answer = become_application(&state, TENANT, &second_hand);
    assert_eq!(refusal(&answer), expected(401, "invalid_client", 700_231));
}

#[test]
fn token_that_entra_did_not_sign_is_refused_as_its_own() {
    let state = two_tenants();
    let forged = assertion(|claims| {
        claims["iss"] = entra_issuer().into();
        claims["sub"] = MACHINE_OBJECT.into();
        claims["aud"] = EXCHANGE.into();
    });
    let answer = become_application(&state, TENANT, &forged);
    assert_eq!(refusal(&answer), expected(401, "invalid_client", 700_027));
}
