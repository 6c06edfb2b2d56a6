//! Every call with every kind of caller over both wires, and what is refused without a look at the body.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Method, StatusCode};
use prost::Message as _;
use proto::{MAX_MESSAGE_BYTES, v1::GetDockerConfigRequest};
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;

use super::*;
use crate::{
    access::{Role, TABLE},
    test_scene::{
        NOBODY, OPERATOR, SYNCER, Scene, WORKLOAD, granted_request, http_request, token,
        wire::{framed, grpc_request, reason, status},
    },
};

/// A body that notices whether it is read.
fn watched_body() -> (Body, Arc<AtomicBool>) {
    let was_read = Arc::new(AtomicBool::new(false));
    let reader = Arc::clone(&was_read);
    let stream = futures::stream::poll_fn(move |_context| {
        reader.store(true, Ordering::SeqCst);
        Poll::Ready(None::<Result<Bytes, std::io::Error>>)
    });
    (Body::from_stream(stream), was_read)
}

/// Callers by whom the table knows them.
fn callers(roles: &[Role]) -> [(&'static str, bool); 4] {
    [
        (SYNCER, roles.contains(&Role::Syncer)),
        (WORKLOAD, roles.contains(&Role::Workload)),
        (OPERATOR, roles.contains(&Role::Operator)),
        (NOBODY, false),
    ]
}

#[tokio::test]
async fn a5_http_routes_refuse_without_reading_and_admit_by_role() {
    let scene = Scene::new().await;
    for rule in &TABLE {
        let (Some((method, path)), Admits::Only(roles)) = (&rule.http, rule.admits) else {
            continue;
        };
        let (body, was_read) = watched_body();
        let request = http_request(method.clone(), path, None, body);
        let answer = scene.send(request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.json()["reason"], "CALLER_UNAUTHENTICATED", "{path}");
        assert_eq!(
            (answer.header("www-authenticate"), answer.header("cache-control")),
            ("Bearer", "no-store")
        );
        assert!(!was_read.load(Ordering::SeqCst), "{path}");

        for (caller, is_admitted) in callers(roles) {
            let (body, was_read) = watched_body();
            let answer = scene
                .send(http_request(method.clone(), path, Some(caller), body))
                .await;
            if is_admitted {
                assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{path} {caller}");
                assert_ne!(answer.status, StatusCode::FORBIDDEN, "{path} {caller}");
                assert_ne!(answer.status, StatusCode::NOT_FOUND, "{path} {caller}");
                assert_eq!(was_read.load(Ordering::SeqCst), method == Method::POST, "{path}");
            } else {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {caller}");
                assert_eq!(answer.json()["reason"], "CALLER_NOT_PERMITTED", "{path} {caller}");
                assert!(!was_read.load(Ordering::SeqCst), "{path} {caller}");
            }
        }
    }
}

#[tokio::test]
async fn a5_grpc_methods_refuse_without_reading_and_admit_by_role() {
    let scene = Scene::new().await;
    for rule in &TABLE {
        let (Some(path), Admits::Only(roles)) = (rule.grpc, rule.admits) else {
            continue;
        };
        let (body, was_read) = watched_body();
        let answer = scene.send(grpc_request(path, None, body)).await;
        // gRPC refuses with HTTP status 200, and the rest in the headers.
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
        let refusal = status(&answer);
        assert_eq!(refusal.code(), Code::Unauthenticated, "{path}");
        assert_eq!(reason(&refusal), "CALLER_UNAUTHENTICATED", "{path}");
        assert!(!was_read.load(Ordering::SeqCst), "{path}");

        for (caller, is_admitted) in callers(roles) {
            let bearer = token(caller);
            if is_admitted {
                let answer = scene.send(grpc_request(path, Some(&bearer), framed(&[]))).await;
                let code = status(&answer).code();
                assert!(
                    !matches!(
                        code,
                        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented
                    ),
                    "{path} {caller} {code:?}"
                );
            } else {
                let (body, was_read) = watched_body();
                let answer = scene.send(grpc_request(path, Some(&bearer), body)).await;
                let refusal = status(&answer);
                assert_eq!(refusal.code(), Code::PermissionDenied, "{path} {caller}");
                assert_eq!(reason(&refusal), "CALLER_NOT_PERMITTED", "{path} {caller}");
                assert!(!was_read.load(Ordering::SeqCst), "{path} {caller}");
            }
        }
    }
}

#[tokio::test]
async fn a5_whatever_is_not_listed_is_refused() {
    let scene = Scene::new().await;
    let unlisted = [
        (Method::POST, "/v1/secrets", StatusCode::NOT_FOUND, ""),
        (Method::GET, "/metrics", StatusCode::NOT_FOUND, ""),
        (
            Method::GET,
            "/v1/docker-config",
            StatusCode::METHOD_NOT_ALLOWED,
            "POST",
        ),
        (
            Method::OPTIONS,
            "/v1/clusters",
            StatusCode::METHOD_NOT_ALLOWED,
            "GET, HEAD",
        ),
        (
            Method::DELETE,
            "/openapi.json",
            StatusCode::METHOD_NOT_ALLOWED,
            "GET, HEAD",
        ),
    ];
    for (method, path, status, allowed) in unlisted {
        let (body, was_read) = watched_body();
        let request = http_request(method.clone(), path, Some(SYNCER), body);
        let answer = scene.send(request).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.header("allow"), allowed, "{method} {path}");
        assert_eq!(answer.json()["type"], "about:blank");
        assert!(!was_read.load(Ordering::SeqCst), "{method} {path}");
    }
    let bearer = token(SYNCER);
    for path in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/acrpull.broker.v1.CredentialService/GetEverything",
        "/v1/docker-config",
    ] {
        let answer = scene.send(grpc_request(path, Some(&bearer), framed(&[]))).await;
        assert_eq!(status(&answer).code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn a5_health_and_description_are_for_anybody() {
    let scene = Scene::new().await;
    let check = tonic_health::pb::HealthCheckRequest {
        service: "acrpull.broker.v1.FleetService".into(),
    };
    let request = grpc_request(
        "/grpc.health.v1.Health/Check",
        None,
        framed(&check.encode_to_vec()),
    );
    let answer = scene.send(request).await;
    assert_eq!(status(&answer).code(), Code::Ok);
    let health = tonic_health::pb::HealthCheckResponse::decode(&answer.body[5..]).unwrap();
    assert_eq!(
        health.status(),
        tonic_health::pb::health_check_response::ServingStatus::Serving
    );

    let long = tonic_health::pb::HealthCheckRequest {
        service: "x".repeat(2000),
    };
    let request = grpc_request(
        "/grpc.health.v1.Health/Check",
        None,
        framed(&long.encode_to_vec()),
    );
    assert_ne!(status(&scene.send(request).await).code(), Code::Ok);

    // Announced as a message of 3 MiB, and nothing of it: refused before memory is set aside for it.
    let announced = Bytes::from_static(&[0, 0, 0x30, 0, 0]);
    let body = futures::stream::iter([Ok::<_, std::io::Error>(announced)]).chain(futures::stream::pending());
    let request = grpc_request("/grpc.health.v1.Health/Check", None, Body::from_stream(body));
    let refused = timeout(Duration::from_secs(10), scene.send(request)).await;
    assert_eq!(status(&refused.unwrap()).code(), Code::OutOfRange);

    for method in [Method::GET, Method::HEAD] {
        let request = http_request(method, "/openapi.json", None, Body::empty());
        let answer = scene.send(request).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("cache-control"), "public, max-age=3600");
    }
}

#[tokio::test]
async fn a5_message_that_is_too_large_is_refused_in_the_form_of_the_wire() {
    let scene = Scene::new().await;
    let large = "x".repeat(MAX_MESSAGE_BYTES + 1);
    let answer = scene
        .send(http_request(
            Method::POST,
            "/v1/docker-config",
            Some(SYNCER),
            large.clone(),
        ))
        .await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.json()["reason"], "REQUEST_TOO_LARGE");

    let message = GetDockerConfigRequest {
        registry: large,
        ..GetDockerConfigRequest::default()
    };
    let request = grpc_request(
        "/acrpull.broker.v1.CredentialService/GetDockerConfig",
        Some(&token(SYNCER)),
        framed(&message.encode_to_vec()),
    );
    let refusal = status(&scene.send(request).await);
    assert_eq!(refusal.code(), Code::OutOfRange);
    assert_eq!(reason(&refusal), "REQUEST_TOO_LARGE");
    assert!(!refusal.message().contains("xxx"));
}

#[tokio::test]
async fn grpc_message_that_does_not_decode_is_the_callers_mistake() {
    let scene = Scene::new().await;
    let request = grpc_request(
        "/acrpull.broker.v1.CredentialService/GetDockerConfig",
        Some(&token(SYNCER)),
        framed(&[0xff; 20]),
    );
    let refusal = status(&scene.send(request).await);
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert_eq!(reason(&refusal), "INVALID_REQUEST");
}

#[tokio::test]
async fn http_body_of_another_kind_is_refused_without_reading_it() {
    let scene = Scene::new().await;
    for kind in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/grpc-web",
    ] {
        let (body, was_read) = watched_body();
        let mut request = http_request(Method::POST, "/v1/docker-config", Some(SYNCER), body);
        request
            .headers_mut()
            .insert("content-type", kind.parse().unwrap());
        let answer = scene.send(request).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
        assert_eq!(answer.header("accept"), "application/json");
        assert!(!was_read.load(Ordering::SeqCst), "{kind}");
    }
    let mut request = http_request(
        Method::POST,
        "/v1/docker-config",
        Some(SYNCER),
        granted_request().to_string(),
    );
    let with_charset = "Application/JSON; charset=utf-8".parse().unwrap();
    request.headers_mut().insert("content-type", with_charset);
    assert_eq!(scene.send(request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn refused_requests_are_counted_once_with_their_reason() {
    let scene = Scene::new().await;
    scene
        .send(http_request(
            Method::POST,
            "/v1/docker-config",
            None,
            Body::empty(),
        ))
        .await;
    scene.post(NOBODY, "/v1/explain", &json!({})).await;
    scene.post(SYNCER, "/v1/docker-config", &json!({})).await;
    let path = "/acrpull.broker.v1.CredentialService/GetDockerConfig";
    let malformed = grpc_request(path, Some(&token(SYNCER)), framed(&[0xff; 20]));
    scene.send(malformed).await;
    let metrics = scene.metrics();
    for labels in [
        r#"call="get_docker_config",transport="http",outcome="CALLER_UNAUTHENTICATED""#,
        r#"call="explain",transport="http",outcome="CALLER_NOT_PERMITTED""#,
        r#"call="get_docker_config",transport="http",outcome="INVALID_REQUEST""#,
        r#"call="get_docker_config",transport="grpc",outcome="INVALID_REQUEST""#,
    ] {
        let line = format!("acrpull_broker_requests_total{{{labels}}} 1");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    assert_eq!(metrics.matches("acrpull_broker_requests_total{").count(), 4);
}

#[test]
fn wire_is_told_by_the_content_type() {
    let wire = |kind: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        wire_of(&headers)
    };
    for kind in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;x=y",
    ] {
        assert_eq!(wire(kind), WireFormat::Grpc, "{kind}");
    }
    for kind in [
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/json",
    ] {
        assert_eq!(wire(kind), WireFormat::Http, "{kind}");
    }
    assert_eq!(wire_of(&HeaderMap::new()), WireFormat::Http);
}
