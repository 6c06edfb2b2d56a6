//! The answers over HTTP and gRPC, byte for byte where it matters.

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, StatusCode};
use proto::v1::{
    GetAccessTokenRequest, ListClustersRequest, TokenKind,
    credential_service_client::CredentialServiceClient, fleet_service_client::FleetServiceClient,
};
use serde_json::{Value, json};
use tonic::metadata::MetadataValue;

use crate::test_scene::{NOBODY, OPERATOR, REGISTRY, SYNCER, Scene, granted_request, http_request, token};

fn with(mut request: Value, field: &str, value: Value) -> Value {
    request[field] = value;
    request
}

#[tokio::test]
async fn docker_config_and_access_token_are_two_forms_of_one_credential() {
    let scene = Scene::new().await;
    let docker_config = scene.post(SYNCER, "/v1/docker-config", &granted_request()).await;
    assert_eq!(docker_config.status, StatusCode::OK);
    assert_eq!(docker_config.header("cache-control"), "no-store");
    assert_eq!(docker_config.header("content-type"), "application/json");
    assert_eq!(scene.azure.calls(), 3);

    let answer = scene.post(SYNCER, "/v1/access-token", &granted_request()).await;
    assert_eq!(
        (answer.status, answer.header("cache-control")),
        (StatusCode::OK, "no-store")
    );
    assert_eq!(scene.azure.calls(), 3, "the same caches");
    let (docker_config, token) = (docker_config.json(), answer.json());
    for field in ["fingerprint", "expireTime", "refreshTime", "grantedScopes"] {
        assert_eq!(docker_config[field], token[field], "{field}");
    }
    assert_eq!(token["expireTime"], "2026-11-18T12:21:40Z");
    assert_eq!(token["kind"], "TOKEN_KIND_ACCESS");
    assert_eq!(token["grantedScopes"], json!(["repository:team/web:pull"]));
    let payload = STANDARD
        .decode(docker_config["dockerConfigJson"].as_str().unwrap())
        .unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(payload["auths"][REGISTRY]["password"], token["token"]);
}

#[tokio::test]
async fn access_token_without_a_scope_is_a_refresh_token() {
    let scene = Scene::new().await;
    let request = with(granted_request(), "scopes", json!([]));
    let answer = scene.post(SYNCER, "/v1/access-token", &request).await.json();
    assert_eq!(answer["kind"], "TOKEN_KIND_REFRESH");
    assert_eq!(answer["grantedScopes"], Value::Null);
    assert_eq!(scene.azure.calls(), 2);
}

#[tokio::test]
async fn access_token_that_the_caller_holds_is_not_sent_again() {
    let scene = Scene::new().await;
    let first = scene
        .post(SYNCER, "/v1/access-token", &granted_request())
        .await
        .json();
    let held = json!({"fingerprint": first["fingerprint"], "expireTime": first["expireTime"]});
    let request = with(granted_request(), "held", held);
    let second = scene.post(SYNCER, "/v1/access-token", &request).await.json();
    assert_eq!(
        (&second["notModified"], &second["token"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(second["fingerprint"], first["fingerprint"]);
}

#[tokio::test]
async fn grpc_twins_answer_the_same() {
    let scene = Scene::new().await;
    let http = scene
        .post(SYNCER, "/v1/access-token", &granted_request())
        .await
        .json();
    let bearer =
        |subject: &str| -> MetadataValue<_> { format!("Bearer {}", token(subject)).parse().unwrap() };
    let origin = http::Uri::from_static("https://broker.example");

    let message: GetAccessTokenRequest = serde_json::from_value(granted_request()).unwrap();
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", bearer(SYNCER));
    let grpc = CredentialServiceClient::with_origin(scene.router.clone(), origin.clone())
        .get_access_token(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (http["token"].as_str(), grpc.kind()),
        (Some(&*grpc.token), TokenKind::Access)
    );

    let mut request = tonic::Request::new(ListClustersRequest::default());
    request.metadata_mut().insert("authorization", bearer(OPERATOR));
    let grpc = FleetServiceClient::with_origin(scene.router.clone(), origin)
        .list_clusters(request)
        .await
        .unwrap()
        .into_inner();
    let http = scene.get(OPERATOR, "/v1/clusters").await;
    assert_eq!(http.json(), serde_json::to_value(&grpc).unwrap());
}

#[tokio::test]
async fn clusters_are_listed_page_by_page_as_the_configuration_names_them() {
    let scene = Scene::new().await;
    let answer = scene.get(OPERATOR, "/v1/clusters").await;
    assert_eq!(
        (answer.status, answer.header("cache-control")),
        (StatusCode::OK, "no-store")
    );
    let west = json!({
        "name": "west",
        "issuer": "https://kubernetes.default.svc.cluster.local",
        "keySource": "KEY_SOURCE_FIXED",
        "keysLoaded": 1,
        "syncers": [SYNCER],
    });
    let east = with(
        with(west.clone(), "name", json!("east")),
        "operators",
        json!([OPERATOR]),
    );
    assert_eq!(answer.json(), json!({"clusters": [east, west]}));
    let rest = scene.get(OPERATOR, "/v1/clusters?pageToken=east").await;
    assert_eq!(rest.json(), json!({"clusters": [west]}));

    let head = http_request(Method::HEAD, "/v1/clusters", Some(OPERATOR), Body::empty());
    let head = scene.send(head).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));

    for query in ["page_size=3", "pageToken=a&pageToken=b"] {
        let answer = scene.get(OPERATOR, &format!("/v1/clusters?{query}")).await;
        assert_eq!(answer.json()["reason"], "INVALID_REQUEST", "{query}");
    }
}

#[tokio::test]
async fn invalidate_drops_what_is_selected_and_azure_is_asked_anew() {
    let scene = Scene::new().await;
    let drop = async |message: Value| scene.post(OPERATOR, "/v1/invalidate", &message).await;
    scene.post(SYNCER, "/v1/docker-config", &granted_request()).await;
    assert_eq!(scene.azure.calls(), 3);
    assert_eq!(
        drop(json!({"cluster": "east"})).await.json(),
        json!({}),
        "nothing federated is cached"
    );
    let of_registry = drop(json!({"identity": "team-web", "registry": REGISTRY})).await;
    assert_eq!(
        of_registry.json(),
        json!({"entriesDropped": 2}),
        "the Entra token stays"
    );
    scene.post(SYNCER, "/v1/docker-config", &granted_request()).await;
    assert_eq!(scene.azure.calls(), 5);
    assert_eq!(
        drop(json!({"all": true})).await.json(),
        json!({"entriesDropped": 3})
    );
    for (message, field) in [
        (json!({"cluster": "esat"}), "cluster"),
        (json!({"identity": "team-wbe"}), "identity"),
        (json!({"registry": "prod.azurecr.example"}), "registry"),
        (
            json!({"cluster": "east", "registry": "prod.azurecr.example"}),
            "registry",
        ),
    ] {
        let answer = drop(message).await.json();
        assert_eq!(answer["reason"], "INVALID_REQUEST");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("{field} must be ")), "{detail}");
    }
    let unused = drop(json!({"registry": "other.azurecr.io"})).await;
    assert_eq!(unused.json(), json!({}), "it may be asked for, and was not");
    let nothing = drop(json!({})).await;
    assert_eq!(nothing.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        nothing.json()["detail"],
        "all must be true to drop everything; else name a cluster, an identity or a registry"
    );
}

#[tokio::test]
async fn json_null_is_the_default_of_a_field() {
    let scene = Scene::new().await;
    let plain = scene.post(SYNCER, "/v1/access-token", &granted_request()).await;
    let nulls = json!({"federated": null, "force": null, "rejectedFingerprint": null, "cloud": {"name": null},
        "minRemaining": null, "held": null});
    let mut request = granted_request();
    request
        .as_object_mut()
        .unwrap()
        .extend(nulls.as_object().unwrap().clone());
    let answer = scene.post(SYNCER, "/v1/access-token", &request).await;
    assert_eq!(
        (answer.status, &answer.json()["token"]),
        (StatusCode::OK, &plain.json()["token"])
    );
}

#[tokio::test]
async fn problem_names_reason_title_and_remedy() {
    let scene = Scene::new().await;
    let answer = scene.post(NOBODY, "/v1/docker-config", &granted_request()).await;
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(
        answer.json(),
        json!({
            "type": "https://acrpull.dev/e/CallerNotPermitted",
            "title": "this ServiceAccount may not call the broker",
            "status": 403,
            "detail": "system:serviceaccount:web:app may not make this call: the configuration does not list it among \
                the syncers or workloads of cluster east",
            "reason": "CALLER_NOT_PERMITTED",
            "retryAfterSeconds": null,
            "traceId": null,
            "azureRequestId": null,
        })
    );
    let unknown = with(granted_request(), "scope", json!([]));
    let answer = scene.post(SYNCER, "/v1/docker-config", &unknown).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("unknown field scope"), "{detail}");
}

#[tokio::test]
async fn l3_failure_of_azure_says_when_to_ask_again_and_nothing_of_its_body() {
    let scene = Scene::new().await;
    scene.azure.take_role();
    let answer = scene.post(SYNCER, "/v1/access-token", &granted_request()).await;
    assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED);
    let body = answer.json();
    assert_eq!(body["reason"], "REGISTRY_UNAUTHORIZED");
    assert_eq!(
        answer.header("retry-after"),
        body["retryAfterSeconds"].to_string()
    );
    assert!(!String::from_utf8_lossy(&answer.body).contains("canary"));
}
