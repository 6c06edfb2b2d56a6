//! The path of every request: read, note, let a fault act, wait as long as Azure would, decide, let the fault
//! act on the answer, note again. What is decided is up to `entra`, `imds` and `acr`.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited, combinators::UnsyncBoxBody};

use crate::{
    Action, Service, acr, answer::Answer, entra, imds, observation::Outcome, request::Request, scene::Scene,
    world::World,
};

mod acting;
mod breaking;
mod sending;

pub(crate) use acting::{Turn, act_first, delay, pick};
pub(crate) use breaking::{Broken, Ending};
pub(crate) use sending::BEFORE_THE_END;
use sending::{Watched, send};

/// A token request with a large assertion has a few KiB.
const LARGEST_BODY_BYTES: usize = 1 << 20;

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
    /// A fault wants it so, and the connection reset.
    #[error("reset by a fault")]
    Reset,
}

/// Why a client has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unanswered {
    /// The handshake came to nothing: by TLS's rules, no client may go on.
    #[error("no TLS session")]
    Handshake,
    /// The connection was closed.
    #[error("closed without an answer")]
    Closed,
    /// The connection was reset, before an answer or in the middle of it.
    #[error("reset")]
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

/// Answers one HTTP request, whose turn on its connection tells which faults may hit it.
pub(crate) async fn serve(
    world: Arc<World>,
    origin: Origin,
    turn: Turn,
    request: http::Request<RequestBody>,
) -> Result<Response<AnswerBody>, Broken> {
    let version = request.version();
    let Received {
        request,
        bytes_in,
        unread,
    } = receive(&world, origin, request).await?;
    let arrived = world.now(origin.service);
    let (call, in_flight) = world
        .observation
        .begin(&request, origin.connection, bytes_in, arrived);
    let picked = pick(&world, turn.stages(origin.service), &request, &request.subject());
    delay(&world, origin.service, picked.as_ref()).await;
    let (fault, action) = picked.as_ref().map(|picked| (&picked.id, &picked.action)).unzip();
    let outcome = |status: Option<StatusCode>, trace, length| Outcome {
        status: status.map(|status| status.as_u16()),
        bytes_out: u64::try_from(length).unwrap_or(u64::MAX),
        trace,
        fault: fault.cloned(),
    };

    let early = match &picked {
        Some(picked) => act_first(&world, picked, origin.service, &call).await,
        None => Ok(None),
    };
    let answer = match early {
        Ok(Some(answer)) => Some(answer),
        Ok(None) => decide(&world, &request, in_flight, action).await,
        Err(unanswered) => {
            call.finish(&outcome(None, Vec::new(), 0));
            return Err(unanswered.into());
        }
    };
    match (answer, unread) {
        (Some(answer), _) => {
            world.observation.issued(answer.issued.iter().cloned());
            let id = call.id();
            call.finish(&outcome(
                Some(answer.status),
                answer.trace.clone(),
                answer.body.len(),
            ));
            let watched = Watched::new(Arc::clone(&world), id);
            send(answer, action, (version, world.now(origin.service).0), watched)
        }
        (None, Some(unread)) => {
            let (response, remark) = from_behind(&world, &request, unread).await;
            let length = content_length(&response);
            call.finish(&outcome(Some(response.status()), vec![remark], length));
            Ok(response)
        }
        (None, None) => {
            let reason = format!(
                "no registry {}: closed, where DNS would know no such name",
                request.host
            );
            call.finish(&outcome(None, vec![reason], 0));
            Err(Unanswered::Closed.into())
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

/// The service's own answer; `None` if a real registry has to give it, or if there is no such registry.
async fn decide(world: &World, request: &Request, in_flight: u64, action: Option<&Action>) -> Option<Answer> {
    let state = world.state();
    let real = world.real_now();
    let draw = world.chance.draw();
    let token_fault = match action {
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
