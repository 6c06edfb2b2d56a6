//! A request whose code panics fails alone, and in the form that its caller speaks. The panic itself is in the log.

use std::any::Any;

use axum::{body::Body, response::Response};
use proto::Reason;
use tonic::Status;

use crate::{error::CredentialError, http::problem};

/// Marks such an answer: its status alone would not tell it from one of a decoder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panicked;

/// What a panic was about may hold secrets: nobody looks at it.
type Payload = Box<dyn Any + Send + 'static>;

pub(super) fn grpc(_payload: Payload) -> Response {
    marked(Status::from(&internal()).into_http::<Body>())
}

pub(super) fn http(_payload: Payload) -> Response {
    marked(problem::of(&internal()))
}

fn internal() -> CredentialError {
    CredentialError::titled(Reason::Internal)
}

fn marked(mut response: Response) -> Response {
    response.extensions_mut().insert(Panicked);
    response
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};
    use http::Request;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    async fn answer(router: Router) -> Response {
        use hyper::service::Service as _;
        hyper_util::service::TowerToHyperService::new(router)
            .call(Request::get("/").body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    fn panicking() -> Router {
        Router::new().route("/", get(async || -> &'static str { panic!("on purpose") }))
    }

    #[tokio::test]
    async fn request_that_panics_is_internal_in_grpc() {
        let answer = answer(panicking().layer(CatchPanicLayer::custom(grpc))).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        assert_eq!(answer.headers()["grpc-status"], "13");
    }

    #[tokio::test]
    async fn request_that_panics_is_internal_in_http() {
        let answer = answer(panicking().layer(CatchPanicLayer::custom(http))).await;
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
}
