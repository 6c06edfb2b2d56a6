//! Which fault hits a request, and what it does before anything is decided.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use serde_json::json;

use super::Unanswered;
use crate::{
    Action, CloseAt, HangAt, Service, acr,
    answer::Answer,
    faults::{Picked, Stage, Throttle},
    observation::OpenCall,
    request::{Request, Subject},
    world::World,
};

/// Which request of its connection it is: what has had its turn is not to hit again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Faults before HTTP have had their turn with its connection.
    First,
    /// A connection from before an outage is no way around it; but its handshake is not repeated.
    Later,
    /// It has no connection: nothing has had its turn.
    Only,
}

impl Turn {
    pub(super) fn stages(self, service: Service) -> &'static [Stage] {
        let has_tls = matches!(service, Service::Entra | Service::Acr);
        match (self, has_tls) {
            (Self::First, _) => &[Stage::Request, Stage::Answer],
            (Self::Later | Self::Only, false) => &[Stage::Accept, Stage::Request, Stage::Answer],
            (Self::Later, true) => &[Stage::Accept, Stage::Hello, Stage::Request, Stage::Answer],
            (Self::Only, true) => &[
                Stage::Accept,
                Stage::Hello,
                Stage::Handshake,
                Stage::Request,
                Stage::Answer,
            ],
        }
    }
}

/// The fault of these stages that hits, if any.
pub(crate) fn pick(world: &World, stages: &[Stage], request: &Request, subject: &Subject) -> Option<Picked> {
    world.faults.pick(
        stages,
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

/// What a fault does before anything is decided: an answer instead of the service's, silence, or a change of
/// the state.
pub(crate) async fn act_first(
    world: &World,
    picked: &Picked,
    service: Service,
    call: &OpenCall<'_>,
) -> Result<Option<Answer>, Unanswered> {
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
            if let Some(value) = throttle.header(world.real_now()) {
                answer.set(header::RETRY_AFTER, &value);
            }
            Ok(Some(answer))
        }
        Action::Redirect { to } => Ok(Some(
            Answer::empty(StatusCode::TEMPORARY_REDIRECT).with(header::LOCATION, to),
        )),
        Action::Hang {
            at: HangAt::Accept | HangAt::Tls | HangAt::BeforeHeaders,
        } => {
            call.silenced_by(&picked.id);
            std::future::pending().await
        }
        Action::Close {
            at: CloseAt::Tls | CloseAt::BeforeHeaders,
        } => Err(Unanswered::Closed),
        Action::Close { at: CloseAt::Accept }
        | Action::Reset {
            at: CloseAt::Accept | CloseAt::Tls | CloseAt::BeforeHeaders,
        } => Err(Unanswered::Reset),
        Action::Tls { .. } => Err(Unanswered::Handshake),
        Action::Flip { pointer, value } => match world.flip(pointer, value) {
            Ok(()) => Ok(None),
            // A fault that does not fit the state is a mistake of the test: say so where it will be seen.
            Err(error) => Ok(Some(Answer::text(
                StatusCode::NOT_IMPLEMENTED,
                format!("flip: {error}"),
            ))),
        },
        Action::Hang {
            at: HangAt::MidHeaders | HangAt::MidBody,
        }
        | Action::Close {
            at: CloseAt::MidHeaders | CloseAt::MidBody,
        }
        | Action::Reset {
            at: CloseAt::MidHeaders | CloseAt::MidBody,
        }
        | Action::Latency { .. }
        | Action::SlowBody { .. }
        | Action::Truncate { .. }
        | Action::BadChunking {}
        | Action::ContentType { .. }
        | Action::Body { .. }
        | Action::GzipBomb { .. }
        | Action::DateHeader { .. }
        | Action::JsonQuirk(_)
        | Action::Token(_)
        | Action::WrongRealm { .. } => Ok(None),
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
