//! Registries: who is let in at all, and which route a request takes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use http::{Method, StatusCode, header};
use jiff::Timestamp;

use crate::{
    Operation, Registry,
    answer::{Answer, Steps},
    bucket::Bucket,
    request::Request,
    scene::Scene,
};

mod backend;
mod challenge;
mod credentials;
mod exchange;
mod permissions;
mod refusal;
mod token;

pub(crate) use backend::{Backend, BackendError};
use refusal::Refusal;
pub(crate) use refusal::throttled_body;

/// The user name that says that the password is a token.
const NULL_GUID: &str = "00000000-0000-0000-0000-000000000000";

/// The OAuth budget of each registry.
#[derive(Default)]
pub(crate) struct OauthBudgets(Mutex<HashMap<String, Bucket>>);

impl OauthBudgets {
    /// Fills every budget up.
    pub(crate) fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn take(&self, registry: &Registry, real: Timestamp) -> Result<(), Refusal> {
        let per_minute = f64::from(registry.oauth_rpm);
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = budgets.entry(registry.host.clone()).or_default();
        bucket
            .take(per_minute, per_minute / 60.0, real)
            .map_err(Refusal::Throttled)
    }
}

/// Answers a request for a registry that exists, unless a real registry has to: then `None`.
pub(crate) fn answer(
    request: &Request,
    registry: &Registry,
    budgets: &OauthBudgets,
    real: Timestamp,
    scene: &Scene<'_>,
) -> Option<Answer> {
    let mut steps = Steps::default();
    let answer = match admit(request, registry, budgets, real, &mut steps) {
        Ok(()) => route(request, registry, scene, &mut steps)?,
        Err(refusal) => refusal.answer(registry, request, scene),
    };
    let name = http::HeaderName::from_static("x-ms-correlation-request-id");
    Some(answer.after(steps).with(name, &scene.draw.request_id))
}

/// The network first, then the rate.
fn admit(
    request: &Request,
    registry: &Registry,
    budgets: &OauthBudgets,
    real: Timestamp,
    steps: &mut Steps,
) -> Result<(), Refusal> {
    let listed = registry
        .allowed_ips
        .as_ref()
        .is_none_or(|allowed| allowed.contains(&request.peer));
    let reachable = registry.public_network && listed;
    steps.check("network", if reachable { Ok(()) } else { Err(Refusal::Firewall) })?;
    match request.operation {
        Operation::Exchange | Operation::Token => steps.check("rate", budgets.take(registry, real)),
        Operation::Connect
        | Operation::Challenge
        | Operation::Manifest
        | Operation::Blob
        | Operation::Catalog
        | Operation::Discovery
        | Operation::Keys
        | Operation::Other => Ok(()),
    }
}

fn route(request: &Request, registry: &Registry, scene: &Scene<'_>, steps: &mut Steps) -> Option<Answer> {
    let result = match (request.operation, &request.method) {
        (Operation::Exchange, &Method::POST) => exchange::exchange(request, registry, scene, steps),
        (Operation::Token, &Method::POST) => token::by_form(request, registry, scene, steps),
        (Operation::Token, &Method::GET) => token::by_basic(request, registry, scene, steps),
        _ if !request.path.starts_with("/v2") => {
            steps.note("no such route");
            Ok(Answer::empty(StatusCode::NOT_FOUND))
        }
        // A real registry verifies tokens itself. It cannot know that the role mode was switched.
        _ if registry.backend.is_some() => match credentials::current_mode(request, registry) {
            Ok(()) => return None,
            Err(refusal) => Err(refusal),
        },
        _ => challenge::answer(request, registry, scene, steps),
    };
    let answer = result.unwrap_or_else(|refusal| refusal.answer(registry, request, scene));
    Some(answer.with(
        header::STRICT_TRANSPORT_SECURITY,
        "max-age=31536000; includeSubDomains",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Service, State,
        scene::sample::{self, HOST, scene, state},
    };

    fn ask(state: &State, path: &str, budgets: &OauthBudgets) -> Answer {
        let request = Request::sample(Service::Acr, &format!("https://{HOST}{path}"), &[]);
        let draw = sample::draw();
        let scene = scene(state, &draw);
        answer(&request, &state.registries[0], budgets, scene.now, &scene).unwrap()
    }

    #[test]
    fn network_closed_is_403_before_anything_else() {
        let mut state = state();
        state.registries[0].public_network = false;
        let closed = ask(&state, "/v2/", &OauthBudgets::default());
        assert_eq!(closed.status, 403);
        let error = &closed.value()["errors"][0];
        assert_eq!(error["code"], "DENIED");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.starts_with("client with IP '127.0.0.1' is not allowed access."),
            "{message}"
        );
        state.registries[0].public_network = true;
        state.registries[0].allowed_ips = Some(vec![[10, 0, 0, 1].into()]);
        assert_eq!(ask(&state, "/v2/", &OauthBudgets::default()).status, 403);
        state.registries[0].allowed_ips = Some(vec![[127, 0, 0, 1].into()]);
        assert_eq!(ask(&state, "/v2/", &OauthBudgets::default()).status, 401);
    }

    #[test]
    fn oauth_calls_beyond_the_budget_are_throttled_and_others_are_not() {
        let (mut state, budgets) = (state(), OauthBudgets::default());
        state.registries[0].oauth_rpm = 1;
        assert_eq!(ask(&state, "/oauth2/token", &budgets).status, 401);
        let throttled = ask(&state, "/oauth2/token", &budgets);
        assert_eq!(throttled.status, 429);
        assert_eq!(throttled.headers[header::RETRY_AFTER], "60");
        assert_eq!(throttled.value()["errors"][0]["code"], "TOOMANYREQUESTS");
        assert_eq!(ask(&state, "/v2/", &budgets).status, 401);
    }

    #[test]
    fn exchange_by_get_is_404() {
        assert_eq!(
            ask(&state(), "/oauth2/exchange", &OauthBudgets::default()).status,
            404
        );
    }
}
