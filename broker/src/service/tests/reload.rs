//! What a change of the configuration does to requests that are under way.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use prost::Message as _;
use proto::v1::{ExplainRequest, InvalidateRequest, ListClustersRequest};
use serde_json::{Value, json};

use crate::test_scene::{
    OPERATOR, REGISTRY, SYNCER, Scene, Shape, federated_request, granted_request, http_request, snapshot,
    subject_token, token,
    wire::{framed, grpc_request, reason, status},
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

#[tokio::test]
async fn a6_operator_who_is_struck_off_while_its_body_comes_sees_and_drops_nothing() {
    let [_grant, _syncer, east, bound] = STRUCK_OFF;
    let whole = InvalidateRequest {
        registry: REGISTRY.to_owned(),
        ..InvalidateRequest::default()
    };
    let calls = [
        (
            "CredentialService/Explain",
            ExplainRequest::default().encode_to_vec(),
        ),
        (
            "FleetService/ListClusters",
            ListClustersRequest::default().encode_to_vec(),
        ),
        ("FleetService/Invalidate", whole.encode_to_vec()),
    ];
    for (shape, refusal) in [east, bound] {
        let scene = Scene::new().await;
        scene.post(SYNCER, PATH, &granted_request()).await;
        let asked = scene.azure.calls();
        for (method, message) in &calls {
            let (live, message) = (scene.live.clone(), framed(message));
            let body = futures::stream::once(async move {
                live.replace(snapshot(shape));
                Ok::<_, Infallible>(message.collect().await.unwrap().to_bytes())
            });
            let path = format!("/acrpull.broker.v1.{method}");
            let late = grpc_request(&path, Some(&token(OPERATOR)), Body::from_stream(body));
            assert_eq!(reason(&status(&scene.send(late).await)), refusal, "{method}");
            scene.live.replace(snapshot(Shape::WHOLE));
        }
        scene.post(SYNCER, PATH, &granted_request()).await;
        assert_eq!(scene.azure.calls(), asked, "it is cached still");
    }
}

#[tokio::test]
async fn o1_caller_who_is_struck_off_under_way_is_recorded_as_what_it_is_then() {
    let [_grant, (syncer, _reason), ..] = STRUCK_OFF;
    let scene = Scene::new().await;
    scene.azure.hold();
    let change = async {
        scene.azure.is_asked().await;
        scene.live.replace(snapshot(syncer));
        scene.azure.release();
    };
    let request = granted_request();
    tokio::join!(scene.post(SYNCER, PATH, &request), change);
    let records = scene.records().await;
    assert_eq!(records[0]["caller"]["subject"], SYNCER);
    assert_eq!(
        (&records[0]["caller"]["role"], &records[0]["reason"]),
        (&Value::Null, &json!("CALLER_NOT_PERMITTED"))
    );
}
