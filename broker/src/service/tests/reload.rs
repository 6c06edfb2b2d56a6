//! What a change of the configuration does to requests that are under way.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use http::{Method, StatusCode};
use serde_json::Value;

use crate::test_scene::{
    SYNCER, Scene, Shape, federated_request, granted_request, http_request, snapshot, subject_token,
};

const PATH: &str = "/v1/access-token";

/// East without one of what a request needs, and what the request is then refused with.
const STRUCK_OFF: [(Shape, &str); 4] = [
    (
        Shape {
            has_grant: false,
            ..Shape::WHOLE
        },
        "POLICY_DENIED",
    ),
    (
        Shape {
            has_syncer: false,
            ..Shape::WHOLE
        },
        "CALLER_NOT_PERMITTED",
    ),
    (
        Shape {
            has_east: false,
            ..Shape::WHOLE
        },
        "CLUSTER_NOT_REGISTERED",
    ),
    (
        Shape {
            east_certificates: &["spiffe://fleet/east"],
            ..Shape::WHOLE
        },
        "CALLER_UNAUTHENTICATED",
    ),
];

/// What a request gets that Azure answers only after the configuration has become `shape`.
async fn overtaken(shape: Shape) -> (StatusCode, Value) {
    let scene = Scene::new().await;
    scene.azure.hold();
    let change = async {
        scene.azure.is_asked().await;
        scene.live.replace(snapshot(shape));
        scene.azure.release();
    };
    let request = granted_request();
    let (answer, ()) = tokio::join!(scene.post(SYNCER, PATH, &request), change);
    (answer.status, answer.json())
}

#[tokio::test]
async fn a6_request_that_waits_for_azure_while_its_right_is_taken_gets_no_token() {
    for (shape, reason) in STRUCK_OFF {
        let (status, body) = overtaken(shape).await;
        assert_eq!(body["reason"], reason);
        assert!(!status.is_success() && body["token"].is_null(), "{reason}");
    }
}

#[tokio::test]
async fn a6_request_that_waits_for_azure_while_something_else_changes_gets_its_token() {
    let (status, body) = overtaken(Shape::WHOLE).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body["token"].is_string());
}

#[tokio::test]
async fn a6_request_whose_body_comes_after_its_right_was_taken_gets_no_token() {
    let shown = subject_token("east", "system:serviceaccount:web:app");
    let [_grant, syncer, east, bound] = STRUCK_OFF;
    for (shape, reason) in [syncer, east, bound] {
        for request in [granted_request(), federated_request(&shown)] {
            let scene = Scene::new().await;
            let live = scene.live.clone();
            let body = futures::stream::once(async move {
                // The gate has let the headers through, and asks for the body.
                live.replace(snapshot(shape));
                Ok::<_, Infallible>(Bytes::from(request.to_string()))
            });
            let late = http_request(Method::POST, PATH, Some(SYNCER), Body::from_stream(body));
            assert_eq!(scene.send(late).await.json()["reason"], reason);
            assert_eq!(scene.azure.calls(), 0, "nothing is fetched for it");
        }
    }
}
