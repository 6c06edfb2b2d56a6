//! The admin API: what a test or a person does to the simulated Azure from outside.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State as Shared},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    ClockChange, ClockSettings, Counters, Fault, IssuedSecret, LogEntry, State,
    world::{ChangeError, TokenError, World},
};

/// `GET /_sim/log?since=`: entries after this sequence number.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Since {
    since: u64,
}

/// `GET /_sim/issuer-jwks?issuer=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfIssuer {
    issuer: String,
}

/// `POST /_sim/sa-token`: a ServiceAccount token of a simulated issuer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccountToken {
    /// URL of the issuer.
    pub issuer: String,
    /// Namespace.
    pub ns: String,
    /// Name of the ServiceAccount.
    pub sa: String,
    /// Audiences.
    pub audiences: Vec<String>,
    /// Seconds to live; negative for one that has expired.
    #[serde(default = "ten_minutes")]
    pub ttl: i64,
    /// Sign with this key, published or not; else with the active one.
    #[serde(default)]
    pub kid: Option<String>,
    /// Claims that replace or add to the usual ones.
    #[serde(default)]
    pub claims: Option<Map<String, Value>>,
}

/// An answer to a request that cannot be met.
struct Refused(StatusCode, String);

impl ServiceAccountToken {
    /// A token as a cluster would mint it for ten minutes.
    pub fn new(issuer: &str, ns: &str, sa: &str, audience: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            ns: ns.to_owned(),
            sa: sa.to_owned(),
            audiences: vec![audience.to_owned()],
            ttl: ten_minutes(),
            kid: None,
            claims: None,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

/// Every route of the admin API.
pub(crate) fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/_sim/state", get(state).put(put_state))
        .route("/_sim/clock", post(change_clock))
        .route("/_sim/faults", post(add_fault).delete(clear_faults))
        .route("/_sim/reset", post(reset))
        .route("/_sim/log", get(log))
        .route("/_sim/counters", get(counters))
        .route("/_sim/issued", get(issued))
        .route("/_sim/assertions", get(assertions))
        .route("/_sim/sa-token", post(sa_token))
        .route("/_sim/issuer-jwks", get(issuer_jwks))
        .route("/_sim/acr-jwks", get(acr_jwks))
        .route("/_sim/ca.pem", get(ca_pem))
        .with_state(world)
}

async fn state(Shared(world): Shared<Arc<World>>) -> Json<State> {
    Json(State::clone(&world.state()))
}

async fn put_state(Shared(world): Shared<Arc<World>>, body: String) -> Result<StatusCode, Refused> {
    let next = parse(&body)?;
    world
        .update(|state| *state = next)
        .map_err(|error| unprocessable(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn change_clock(
    Shared(world): Shared<Arc<World>>,
    body: String,
) -> Result<Json<ClockSettings>, Refused> {
    let change: ClockChange = parse(&body)?;
    world
        .update(|state| change.apply(&mut state.clock))
        .map_err(|error| unprocessable(&error))?;
    Ok(Json(world.state().clock.clone()))
}

async fn add_fault(Shared(world): Shared<Arc<World>>, body: String) -> Result<Json<Value>, Refused> {
    let fault: Fault = parse(&body)?;
    let id = world.add_fault(fault).map_err(|error| unprocessable(&error))?;
    Ok(Json(json!({"id": id})))
}

async fn clear_faults(Shared(world): Shared<Arc<World>>) -> StatusCode {
    world.faults.clear();
    StatusCode::NO_CONTENT
}

async fn reset(Shared(world): Shared<Arc<World>>) -> StatusCode {
    world.reset();
    StatusCode::NO_CONTENT
}

async fn log(Shared(world): Shared<Arc<World>>, Query(query): Query<Since>) -> Json<Vec<LogEntry>> {
    Json(world.observation.log_since(query.since))
}

async fn counters(Shared(world): Shared<Arc<World>>) -> Json<Counters> {
    Json(world.observation.counters())
}

async fn issued(Shared(world): Shared<Arc<World>>) -> Json<Vec<IssuedSecret>> {
    Json(world.observation.secrets())
}

async fn assertions(Shared(world): Shared<Arc<World>>) -> Json<Vec<String>> {
    Json(world.observation.assertions())
}

async fn sa_token(Shared(world): Shared<Arc<World>>, body: String) -> Result<Json<Value>, Refused> {
    let token = world
        .service_account_token(&parse(&body)?)
        .map_err(|error| no_token(&error))?;
    Ok(Json(json!({"token": token})))
}

async fn issuer_jwks(
    Shared(world): Shared<Arc<World>>,
    Query(query): Query<OfIssuer>,
) -> Result<Response, Refused> {
    let document = world
        .issuer_jwks(&query.issuer)
        .map_err(|error| no_token(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document).into_response())
}

async fn acr_jwks(Shared(world): Shared<Arc<World>>) -> Json<Value> {
    Json(json!(world.keys.acr_jwks()))
}

async fn ca_pem(Shared(world): Shared<Arc<World>>) -> Response {
    let pem = world.certificates.authority_pem().to_owned();
    ([(header::CONTENT_TYPE, "application/x-pem-file")], pem).into_response()
}

/// Bodies are read as text so that `curl -d` works without a content type.
fn parse<T: for<'de> Deserialize<'de>>(body: &str) -> Result<T, Refused> {
    serde_json::from_str(body).map_err(|error| unprocessable(&ChangeError::Value(error)))
}

fn unprocessable(error: &dyn std::error::Error) -> Refused {
    let source = error
        .source()
        .map(|source| format!(": {source}"))
        .unwrap_or_default();
    Refused(StatusCode::UNPROCESSABLE_ENTITY, format!("{error}{source}"))
}

fn no_token(error: &TokenError) -> Refused {
    match error {
        TokenError::Issuer(_) => Refused(StatusCode::NOT_FOUND, error.to_string()),
        TokenError::Key(_) => Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

const fn ten_minutes() -> i64 {
    600
}
