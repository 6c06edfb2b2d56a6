//! The path of every request: read, note, let a fault act, wait as long as Azure would, decide, let the fault
//! act on the answer, note again. What is decided is up to `entra`, `imds` and `acr`.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited, combinators::UnsyncBoxBody};

use crate::{
    Action, Service, acr,
    answer::Answer,
    entra,
    faults::{Picked, Stage},
    imds,
    observation::Outcome,
    request::{Request, Subject},
    scene::Scene,
    world::World,
};

mod acting;
mod sending;

pub(crate) use acting::act_first;
use sending::send;

/// A token request with a large assertion has a few KiB.
const LARGEST_BODY_BYTES: usize = 1 << 20;

/// Where faults may hit the first request of a connection: those that act before HTTP have had their turn.
pub(crate) const ON_A_NEW_CONNECTION: &[Stage] = &[Stage::Request];

/// The same where nothing has had its turn. A connection from before an outage is no way around it.
pub(crate) const FROM_THE_START: &[Stage] = &[Stage::Accept, Stage::Tls, Stage::Request];

/// The body of a request on its way in.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, hyper::Error>;

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

/// Why a client has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The connection was closed.
    #[error("closed without an answer")]
    Closed,
    /// The connection was reset, as by a port where nobody listens.
    #[error("reset without an answer")]
    Reset,
    /// The answer began, and its body was not what its head had announced.
    #[error("the answer broke off")]
    BrokenOff,
}

/// A request as far as it was read.
struct Received {
    request: Request,
    bytes_in: u64,
    /// Head and body, unread, of a request that a real registry is going to answer.
    unread: Option<http::Request<RequestBody>>,
}

/// Answers one HTTP request. Faults of these stages may hit it.
pub(crate) async fn serve(
    world: Arc<World>,
    origin: Origin,
    stages: &'static [Stage],
    request: http::Request<RequestBody>,
) -> Result<Response<AnswerBody>, Unanswered> {
    let Received {
        request,
        bytes_in,
        unread,
    } = receive(&world, origin, request).await?;
    let arrived = world.now(origin.service);
    let (call, in_flight) = world
        .observation
        .begin(&request, origin.connection, bytes_in, arrived);
    let subject = request.subject();
    let picked = stages
        .iter()
        .find_map(|stage| pick(&world, *stage, &request, &subject));
    delay(&world, origin.service, picked.as_ref()).await;
    let early = match &picked {
        Some(picked) => act_first(&world, picked, origin.service, &call).await?,
        None => None,
    };
    let answer = match early {
        Some(answer) => Some(answer),
        None => decide(&world, &request, in_flight, picked.as_ref()).await,
    };

    let fault = picked.as_ref().map(|picked| picked.id.clone());
    let outcome = |status: StatusCode, trace, length| Outcome {
        status: Some(status.as_u16()),
        bytes_out: u64::try_from(length).unwrap_or(u64::MAX),
        trace,
        fault,
    };
    match (answer, unread) {
        (Some(answer), _) => {
            world.observation.issued(answer.issued.iter().cloned());
            let id = call.id();
            call.finish(&outcome(answer.status, answer.trace.clone(), answer.body.len()));
            Ok(send(answer, picked.map(|picked| picked.action), &world, id))
        }
        (None, Some(unread)) => {
            let (response, remark) = from_behind(&world, &request, unread).await;
            call.finish(&outcome(
                response.status(),
                vec![remark],
                content_length(&response),
            ));
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
            Err(Unanswered::Closed)
        }
    }
}

/// Reads a request, unless it is for a real registry: what that will read must not be read here.
async fn receive(
    world: &World,
    origin: Origin,
    request: http::Request<RequestBody>,
) -> Result<Received, Unanswered> {
    let (head, body) = request.into_parts();
    let draft = Request::new(origin.service, &head, &Bytes::new(), origin.peer);
    let state = world.state();
    let registry = state
        .registry(&draft.host)
        .filter(|_| origin.service == Service::Acr);
    if draft.path.starts_with("/v2") && registry.is_some_and(|registry| registry.backend.is_some()) {
        let unread = Some(http::Request::from_parts(head, body));
        return Ok(Received {
            request: draft,
            bytes_in: 0,
            unread,
        });
    }
    let read = Limited::new(body, LARGEST_BODY_BYTES)
        .collect()
        .await
        .map_err(|_unread| Unanswered::Closed)?
        .to_bytes();
    let bytes_in = u64::try_from(read.len()).unwrap_or(u64::MAX);
    let request = Request::new(origin.service, &head, &read, origin.peer);
    Ok(Received {
        request,
        bytes_in,
        unread: None,
    })
}

/// What the real registry answers, or that it does not.
async fn from_behind(
    world: &World,
    request: &Request,
    unread: http::Request<RequestBody>,
) -> (Response<AnswerBody>, String) {
    let state = world.state();
    let address = state
        .registry(&request.host)
        .and_then(|registry| registry.backend.as_deref());
    match world
        .backend
        .pass_on(unread, address.unwrap_or_default(), &request.authority)
        .await
    {
        Ok(response) => (response, "answered by the registry behind".to_owned()),
        Err(error) => (bad_gateway(&error), error.to_string()),
    }
}

/// The fault that hits, if any.
pub(crate) fn pick(world: &World, stage: Stage, request: &Request, subject: &Subject) -> Option<Picked> {
    world.faults.pick(
        stage,
        (request.service, request.operation),
        subject,
        world.now(request.service),
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

/// The service's own answer; `None` if a real registry has to give it, or if there is no such registry.
async fn decide(world: &World, request: &Request, in_flight: u64, picked: Option<&Picked>) -> Option<Answer> {
    let state = world.state();
    let real = world.real_now();
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
                .keys_of(issuer.as_deref(), &state, &world.keys, real)
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
