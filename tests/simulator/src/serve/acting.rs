//! What faults do before anything is decided.

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use serde_json::json;

use super::Unanswered;
use crate::{
    Action, CloseAt, HangAt, Service, acr,
    answer::Answer,
    faults::{Picked, Throttle},
    observation::OpenCall,
    world::World,
};

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
        Action::Close { at: CloseAt::Accept } => {
            call.silenced_by(&picked.id);
            Err(Unanswered::Reset)
        }
        Action::Close {
            at: CloseAt::Tls | CloseAt::BeforeHeaders,
        } => {
            call.silenced_by(&picked.id);
            Err(Unanswered::Closed)
        }
        Action::Flip { pointer, value } => match world.flip(pointer, value) {
            Ok(()) => Ok(None),
            // A fault that does not fit the state is a mistake of the test: say so where it will be seen.
            Err(error) => Ok(Some(Answer::text(
                StatusCode::NOT_IMPLEMENTED,
                format!("flip: {error}"),
            ))),
        },
        Action::Hang { at: HangAt::MidBody }
        | Action::Close { at: CloseAt::MidBody }
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
