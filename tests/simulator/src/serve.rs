//! The path of every request: read, note, let a fault act, wait as long as Azure would, decide, let the fault act on the
//! answer, note again. What is decided is up to `entra`, `imds` and `acr`.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use serde_json::json;

use crate::{
    Action, CloseAt, HangAt, Service, acr,
    answer::Answer,
    clock::real_now,
    entra,
    faults::{Picked, Stage, Throttle},
    imds,
    observation::{OpenCall, Outcome},
    request::{Request, Subject},
    scene::Scene,
    world::World,
};

mod sending;

use sending::send;

/// A token request with a large assertion has a few KiB.
const LARGEST_BODY_BYTES: usize = 1 << 20;

/// The body of an answer on its way out.
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, BodyError>;

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) service: Service,
    pub(crate) connection: u64,
    pub(crate) peer: IpAddr,
}

/// A body that ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The real registry broke off.
    #[error("the registry behind broke off")]
    Backend(#[from] hyper::Error),
    /// A fault wants it so.
    #[error("cut off by a fault")]
    Cut,
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
pub(crate) struct Closed;

/// Answers one HTTP request.
pub(crate) async fn serve(
    world: Arc<World>,
    origin: Origin,
    request: http::Request<Incoming>,
) -> Result<Response<AnswerBody>, Closed> {
    let (head, body) = request.into_parts();
    let service = origin.service;
    let draft = Request::new(service, &head, &Bytes::new(), origin.peer);
    // What a real registry will read must not be read here.
    let is_passed_on = service == Service::Acr
        && draft.path.starts_with("/v2")
        && world
            .state()
            .registry(&draft.host)
            .is_some_and(|registry| registry.backend.is_some());
    let (request, body, bytes_in) = if is_passed_on {
        (draft, Some(body), 0)
    } else {
        let read = Limited::new(body, LARGEST_BODY_BYTES)
            .collect()
            .await
            .map_err(|_unread| Closed)?
            .to_bytes();
        let length = u64::try_from(read.len()).unwrap_or(u64::MAX);
        (Request::new(service, &head, &read, origin.peer), None, length)
    };

    let real = real_now();
    let arrived = (world.state().clock.at(service, real), real);
    let (call, in_flight) = world
        .observation
        .begin(&request, origin.connection, bytes_in, arrived);
    let picked = pick(&world, Stage::Request, &request, &request.subject());
    delay(&world, service, picked.as_ref()).await;
    let early = match &picked {
        Some(picked) => act_first(&world, picked, service, &call).await?,
        None => None,
    };
    let outcome = |status: StatusCode, trace, length| Outcome {
        status: Some(status.as_u16()),
        bytes_out: u64::try_from(length).unwrap_or(u64::MAX),
        trace,
        fault: picked.as_ref().map(|picked| picked.id.clone()),
    };

    let answer = match early {
        Some(answer) => Some(answer),
        None => decide(&world, &request, in_flight, picked.as_ref()).await,
    };
    match (answer, body) {
        (Some(answer), _) => {
            world.observation.issued(answer.issued.iter().cloned());
            let id = call.id();
            call.finish(&outcome(answer.status, answer.trace.clone(), answer.body.len()));
            send(answer, picked.map(|picked| picked.action), &world, id)
        }
        (None, Some(body)) => {
            let state = world.state();
            let address = state
                .registry(&request.host)
                .and_then(|registry| registry.backend.as_deref());
            let request_on = http::Request::from_parts(head, body);
            let passed = world
                .backend
                .pass_on(request_on, address.unwrap_or_default(), &request.authority)
                .await;
            let (response, trace) = match passed {
                Ok(response) => (response, vec!["answered by the registry behind".to_owned()]),
                Err(error) => (bad_gateway(&error), vec![error.to_string()]),
            };
            call.finish(&outcome(response.status(), trace, content_length(&response)));
            Ok(response)
        }
        (None, None) => {
            let reason = format!(
                "no registry {}: closed, where DNS would know no such name",
                request.host
            );
            call.finish(&Outcome {
                trace: vec![reason],
                ..Outcome::default()
            });
            Err(Closed)
        }
    }
}

/// The fault that hits, if any.
pub(crate) fn pick(world: &World, stage: Stage, request: &Request, subject: &Subject) -> Option<Picked> {
    let real = real_now();
    let now = world.state().clock.at(request.service, real);
    world.faults.pick(
        stage,
        (request.service, request.operation),
        subject,
        (now, real),
        &world.chance,
    )
}

/// Waits as long as the service takes, and as a fault adds.
pub(crate) async fn delay(world: &World, service: Service, picked: Option<&Picked>) {
    let usual_ms = world
        .state()
        .latency_ms
        .get(&service)
        .copied()
        .unwrap_or_default();
    let added = match picked.map(|picked| &picked.action) {
        Some(Action::Latency { ms, jitter_ms }) => {
            Duration::from_millis(*ms) + Duration::from_millis(*jitter_ms).mul_f64(world.chance.coin())
        }
        _ => Duration::ZERO,
    };
    let wait = Duration::from_millis(usual_ms) + added;
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

/// What a fault does before anything is decided: an answer instead of the service's, silence, or a change of the state.
pub(crate) async fn act_first(
    world: &World,
    picked: &Picked,
    service: Service,
    call: &OpenCall<'_>,
) -> Result<Option<Answer>, Closed> {
    match &picked.action {
        Action::Status {
            code,
            body,
            content_type,
            headers,
        } => {
            let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut answer = Answer::empty(status);
            answer.body = Bytes::from(body.clone());
            for (name, value) in headers {
                if let Ok(name) = HeaderName::try_from(name) {
                    answer.set(name, value);
                }
            }
            if let Some(content_type) = content_type {
                answer.set(header::CONTENT_TYPE, content_type);
            }
            Ok(Some(answer))
        }
        Action::Throttle {
            retry_after,
            countdown,
        } => {
            let throttle = Throttle {
                retry_after: *retry_after,
                countdown: *countdown,
                first_hit_at: picked.first_hit_at,
            };
            let mut answer = Answer::json(StatusCode::TOO_MANY_REQUESTS, &throttled_body(service));
            if let Some(value) = throttle.header(real_now()) {
                answer.set(header::RETRY_AFTER, &value);
            }
            Ok(Some(answer))
        }
        Action::Redirect { to } => Ok(Some(
            Answer::empty(StatusCode::TEMPORARY_REDIRECT).with(header::LOCATION, to),
        )),
        Action::Hang {
            at: HangAt::BeforeHeaders,
        } => {
            call.silenced_by(&picked.id);
            std::future::pending().await
        }
        Action::Close {
            at: CloseAt::BeforeHeaders,
        } => {
            call.silenced_by(&picked.id);
            Err(Closed)
        }
        Action::Flip { pointer, value } => match world.flip(pointer, value) {
            Ok(()) => Ok(None),
            // A fault that does not fit the state is a mistake of the test: say so where it will be seen.
            Err(error) => Ok(Some(Answer::text(
                StatusCode::NOT_IMPLEMENTED,
                format!("flip: {error}"),
            ))),
        },
        Action::Hang { .. }
        | Action::Close { .. }
        | Action::Latency { .. }
        | Action::SlowBody { .. }
        | Action::Truncate { .. }
        | Action::ContentType { .. }
        | Action::Body { .. }
        | Action::JsonQuirk(_)
        | Action::Token(_)
        | Action::WrongRealm { .. } => Ok(None),
    }
}

/// The service's own answer; `None` if a real registry has to give it, or if there is no such registry.
async fn decide(world: &World, request: &Request, in_flight: u64, picked: Option<&Picked>) -> Option<Answer> {
    let state = world.state();
    let real = real_now();
    let draw = world.chance.draw();
    let token_fault = match picked.map(|picked| &picked.action) {
        Some(Action::Token(fault)) => Some(fault),
        _ => None,
    };
    let now = state.clock.at(request.service, real);
    let scene = Scene {
        state: &state,
        keys: &world.keys,
        now,
        draw: &draw,
        token_fault,
    };
    match request.service {
        Service::Entra => {
            let issuer = entra::issuer_of(request);
            let keys = world
                .documents
                .keys_of(issuer.as_deref(), &state, &world.keys)
                .await;
            Some(entra::answer(request, &keys, &scene))
        }
        Service::Imds => Some(imds::answer(request, &world.imds, (in_flight, real), &scene)),
        Service::Acr => acr::answer(
            request,
            state.registry(&request.host)?,
            &world.budgets,
            real,
            &scene,
        ),
        // The proxy has a protocol and a listener of its own.
        Service::Proxy => None,
    }
}

fn throttled_body(service: Service) -> serde_json::Value {
    match service {
        Service::Acr => acr::throttled_body(),
        Service::Entra => json!({
            "error": "temporarily_unavailable",
            "error_description": "AADSTS90055: TenantThrottlingError",
            "error_codes": [90055],
        }),
        Service::Imds | Service::Proxy => json!({"error": "too_many_requests"}),
    }
}

fn bad_gateway(error: &acr::BackendError) -> Response<AnswerBody> {
    let body = http_body_util::Full::new(Bytes::from(error.to_string())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn content_length(response: &Response<AnswerBody>) -> usize {
    let length = response
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or_default()
}
