//! All that a decision may depend on besides the request: so a decision is a function, and is tested as one.

use jiff::Timestamp;

use crate::{State, chance::Draw, faults::TokenFault, keys::Keys};

/// The moment at which a request is decided.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) state: &'a State,
    pub(crate) keys: &'a Keys,
    /// Time by the clock of the service that decides.
    pub(crate) now: Timestamp,
    pub(crate) draw: &'a Draw,
    /// What is to be wrong about the token that may be issued.
    pub(crate) token_fault: Option<&'a TokenFault>,
}

#[cfg(test)]
pub(crate) mod sample {
    //! One tenant, one application federated with one issuer, one registry it may pull from.

    use std::sync::LazyLock;

    use serde_json::json;

    use super::*;
    use crate::{Issuer, Principal, Registry, Role, jwt::JwkSet};

    pub(crate) const TENANT: &str = "11111111-0000-0000-0000-000000000001";
    pub(crate) const CLIENT: &str = "22222222-0000-0000-0000-000000000002";
    pub(crate) const OBJECT: &str = "33333333-0000-0000-0000-000000000003";
    pub(crate) const ISSUER: &str = "https://oidc.example/cluster/";
    pub(crate) const SUBJECT: &str = "system:serviceaccount:web:app";
    pub(crate) const AUDIENCE: &str = "api://AzureCRTokenExchange";
    pub(crate) const HOST: &str = "demo.azurecr.io";
    pub(crate) const NOW: i64 = 1_800_000_000;

    /// Keys are slow to make and never changed, so the tests of this process share them.
    pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::generate().unwrap());

    pub(crate) fn state() -> State {
        State::default()
            .with_tenant(TENANT)
            .with_issuer(Issuer::simulated(ISSUER))
            .with_principal(Principal::app(TENANT, CLIENT, OBJECT).federated(ISSUER, SUBJECT, AUDIENCE))
            .with_registry(Registry::new(HOST, TENANT).with_role(OBJECT, Role::AcrPull))
    }

    pub(crate) fn draw() -> Draw {
        Draw {
            coin: 0.5,
            request_id: "request-1".to_owned(),
            token_id: "token-1".to_owned(),
        }
    }

    pub(crate) fn scene<'a>(state: &'a State, draw: &'a Draw) -> Scene<'a> {
        let now = Timestamp::from_second(NOW).unwrap();
        Scene {
            state,
            keys: &KEYS,
            now,
            draw,
            token_fault: None,
        }
    }

    /// A ServiceAccount token, changed by the caller.
    pub(crate) fn assertion(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut claims =
            json!({"iss": ISSUER, "sub": SUBJECT, "aud": [AUDIENCE], "nbf": NOW - 10, "exp": NOW + 600});
        change(&mut claims);
        KEYS.of_issuer(ISSUER, "k1").unwrap().sign(&claims)
    }

    pub(crate) fn issuer_jwks() -> JwkSet {
        KEYS.issuer_jwks(ISSUER, &["k1".to_owned()]).unwrap()
    }
}
