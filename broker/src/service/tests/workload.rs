//! A workload asks for itself, over both wires, and for nobody else.

use serde_json::{Value, json};

use crate::{
    access::Call,
    test_scene::{
        CALLER_AUDIENCE, NOBODY, OPERATOR, SYNCER, Scene, WORKLOAD, claims, federated_request,
        granted_request, signer, subject_token, token, wire::BOTH,
    },
};

const NAMESPACE: &str = "self-service";

fn own(mut request: Value) -> Value {
    request["binding"]["namespace"] = json!(NAMESPACE);
    request
}

fn with(mut request: Value, pointer: &str, value: Value) -> Value {
    *request.pointer_mut(pointer).unwrap() = value;
    request
}

/// What it may ask for: its grant, and an identity that trusts it.
fn own_requests() -> [Value; 2] {
    [
        own(granted_request()),
        own(federated_request(&subject_token("east", WORKLOAD))),
    ]
}

/// What it may not, though a syncer of its cluster may, and the field that says so.
fn requests_of_others() -> Vec<(Value, &'static str)> {
    let [granted, federated] = own_requests();
    let other_account = subject_token("east", "system:serviceaccount:self-service:other");
    vec![
        (
            with(granted.clone(), "/binding/namespace", json!("web")),
            "binding.namespace",
        ),
        (
            with(granted.clone(), "/serviceAccounts", json!(["other"])),
            "service_accounts",
        ),
        (
            with(granted, "/serviceAccounts", json!(["app", "other"])),
            "service_accounts",
        ),
        (
            with(federated.clone(), "/federated/subjectToken", json!(other_account)),
            "federated.subject_token",
        ),
        (
            with(federated, "/binding/namespace", json!("web")),
            "binding.namespace",
        ),
    ]
}

#[tokio::test]
async fn workload_gets_credentials_for_itself_in_both_forms() {
    for request in own_requests() {
        let scene = Scene::new().await;
        let bearer = [format!("Bearer {}", token(WORKLOAD))];
        for wire in BOTH {
            let config = scene.call(wire, Call::GetDockerConfig, &bearer, &request).await;
            let access = scene.call(wire, Call::GetAccessToken, &bearer, &request).await;
            let (config, access) = (config.unwrap(), access.unwrap());
            assert!(config["dockerConfigJson"].is_string() && access["token"].is_string());
            // Its binding has no object behind it: any name will do.
            let renamed = with(request.clone(), "/binding/name", json!("anything"));
            assert_eq!(scene.ask(wire, &token(WORKLOAD), &renamed).await, Ok(config));
        }
        assert_eq!(scene.azure.calls(), 3);
    }
}

#[tokio::test]
async fn a1_workload_that_asks_for_another_is_refused_on_miss_and_hit() {
    let scene = Scene::new().await;
    for round in ["miss", "hit"] {
        let before = scene.azure.calls();
        for (request, field) in requests_of_others() {
            for wire in BOTH {
                let refused = scene.ask(wire, &token(WORKLOAD), &request).await;
                assert_eq!(
                    refused,
                    Err("CALLER_NOT_PERMITTED".to_owned()),
                    "{field}, {round}"
                );
            }
            let told = scene.post(WORKLOAD, "/v1/docker-config", &request).await.json();
            let detail = told["detail"].as_str().unwrap();
            let begin = format!("a workload may ask for itself only: {field} must be ");
            assert!(detail.starts_with(&begin), "{detail}");
        }
        assert_eq!(scene.azure.calls(), before, "{round}");
        // The syncer's bindings of the same names are cached now.
        for (request, _field) in requests_of_others() {
            drop(scene.ask(BOTH[0], &token(SYNCER), &request).await);
        }
        assert!(scene.azure.calls() > 0);
    }
}

#[tokio::test]
async fn workload_that_no_grant_allows_gets_nothing() {
    let scene = Scene::new().await;
    let request = with(
        own(granted_request()),
        "/scopes",
        json!(["repository:other/web:pull"]),
    );
    for wire in BOTH {
        let refused = scene.ask(wire, &token(WORKLOAD), &request).await;
        assert_eq!(refused, Err("POLICY_DENIED".to_owned()));
    }
}

#[tokio::test]
async fn a5_workload_may_call_nothing_else() {
    let scene = Scene::new().await;
    let bearer = [format!("Bearer {}", token(WORKLOAD))];
    for wire in BOTH {
        for (call, message) in [
            (Call::ListClusters, json!({})),
            (Call::Invalidate, json!({"all": true})),
        ] {
            let refused = scene.call(wire, call, &bearer, &message).await;
            assert_eq!(refused, Err("CALLER_NOT_PERMITTED".to_owned()), "{call:?}");
        }
    }
}

#[tokio::test]
async fn a5_service_account_of_another_namespace_or_cluster_is_no_workload() {
    let scene = Scene::new().await;
    let in_west = signer("west").sign(&claims(WORKLOAD, CALLER_AUDIENCE));
    for bearer in [token(NOBODY), in_west] {
        for wire in BOTH {
            let refused = scene.ask(wire, &bearer, &own(granted_request())).await;
            assert_eq!(refused, Err("CALLER_NOT_PERMITTED".to_owned()));
        }
    }
}

#[tokio::test]
async fn explain_is_for_a_workload_about_itself() {
    let scene = Scene::new().await;
    let bearer = [format!("Bearer {}", token(WORKLOAD))];
    let explain = async |wire, message: Value| {
        let message = json!({"request": message});
        scene.call(wire, Call::Explain, &bearer, &message).await.unwrap()
    };
    for wire in BOTH {
        for request in own_requests() {
            let answer = explain(wire, request).await;
            assert_eq!(answer["verdict"], "VERDICT_PASSED");
            assert!(answer["steps"].to_string().contains("own_account"), "{answer}");
        }
        for (request, field) in requests_of_others() {
            let answer = explain(wire, request).await;
            assert_eq!(
                (&answer["verdict"], &answer["reason"]),
                (&json!("VERDICT_DENIED"), &json!("CALLER_NOT_PERMITTED"))
            );
            assert!(answer["detail"].as_str().unwrap().contains(field), "{answer}");
            assert_eq!(answer["cacheLevels"], Value::Null);
            let last = answer["steps"].as_array().unwrap().last().unwrap();
            assert_eq!(last["verdict"], "VERDICT_NOT_REACHED");
        }
        let elsewhere = json!({"request": own(granted_request()), "cluster": "west"});
        let refused = scene.call(wire, Call::Explain, &bearer, &elsewhere).await;
        assert_eq!(refused, Err("CALLER_NOT_PERMITTED".to_owned()));
    }
    assert_eq!(scene.azure.calls(), 0);
}

#[tokio::test]
async fn explain_of_an_operator_is_not_bound_to_its_own_account() {
    let scene = Scene::new().await;
    let message = json!({"request": own(granted_request())});
    let answer = scene.post(OPERATOR, "/v1/explain", &message).await.json();
    assert_eq!(answer["verdict"], "VERDICT_PASSED");
    assert!(!answer["steps"].to_string().contains("own_account"), "{answer}");
}
