//! What is explained to whom, over the real router, with an Azure that counts its calls.

use serde_json::{Value, json};

use crate::test_scene::{NOBODY, OPERATOR, SYNCER, Scene, federated_request, granted_request, subject_token};

async fn explain(scene: &Scene, caller: &str, request: Value) -> Value {
    scene
        .post(caller, "/v1/explain", &json!({"request": request}))
        .await
        .json()
}

fn verdicts(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let steps = answer["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|step| {
            let verdict = text(&step["verdict"]).replace("VERDICT_", "");
            (text(&step["name"]), verdict)
        })
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(name, verdict)| ((*name).to_owned(), (*verdict).to_owned()))
        .collect()
}

fn step<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let mut steps = answer["steps"].as_array().unwrap().iter();
    steps.find(|step| step["name"] == name).unwrap()
}

#[tokio::test]
async fn explain_granted_request_passes_and_asks_azure_nothing() {
    let scene = Scene::new().await;
    let answer = explain(&scene, SYNCER, granted_request()).await;
    assert_eq!(answer["verdict"], "VERDICT_PASSED");
    assert_eq!(
        answer["detail"],
        "permitted; nothing is cached on this replica, and Azure decides when it is asked"
    );
    assert_eq!(answer["cluster"], "east");
    assert_eq!(
        verdicts(&answer),
        pairs(&[
            ("caller", "PASSED"),
            ("request", "PASSED"),
            ("cloud", "PASSED"),
            ("registry", "PASSED"),
            ("grant", "PASSED"),
        ])
    );
    assert_eq!(
        answer["cacheLevels"],
        json!([
            {"name": "entra", "state": "CACHE_STATE_ABSENT"},
            {"name": "acr_refresh", "state": "CACHE_STATE_ABSENT"},
            {"name": "acr_access", "state": "CACHE_STATE_ABSENT"},
        ])
    );
    assert_eq!(scene.azure.calls(), 0);
    assert!(
        !scene
            .metrics()
            .contains("acrpull_broker_upstream_requests_total{")
    );
}

#[tokio::test]
async fn explain_shows_times_of_what_is_cached_and_no_token() {
    let scene = Scene::new().await;
    let issued = scene
        .post(SYNCER, "/v1/access-token", &granted_request())
        .await
        .json();
    let calls = scene.azure.calls();
    let answer = explain(&scene, SYNCER, granted_request()).await;
    assert_eq!(answer["detail"], "a credential is cached");
    let level = &answer["cacheLevels"][2];
    assert_eq!(
        (&level["name"], &level["state"]),
        (&json!("acr_access"), &json!("CACHE_STATE_FRESH"))
    );
    assert_eq!(level["expireTime"], issued["expireTime"]);
    assert!(level["refreshTime"].as_str().unwrap().ends_with('Z'));
    let text = answer.to_string();
    assert!(!text.contains(issued["token"].as_str().unwrap()) && !text.contains("entra-token"));
    assert_eq!(scene.azure.calls(), calls);
}

#[tokio::test]
async fn explain_failing_level_says_why_and_when_it_is_tried_again() {
    let scene = Scene::new().await;
    scene.azure.take_role();
    scene.post(SYNCER, "/v1/docker-config", &granted_request()).await;
    let answer = explain(&scene, SYNCER, granted_request()).await;
    assert_eq!(answer["verdict"], "VERDICT_FAILING");
    assert_eq!(answer["reason"], "REGISTRY_UNAUTHORIZED");
    let levels = &answer["cacheLevels"];
    assert_eq!(levels[0]["state"], "CACHE_STATE_FRESH");
    assert_eq!(levels[1]["state"], "CACHE_STATE_FAILING");
    assert_eq!(levels[1]["failureReason"], "REGISTRY_UNAUTHORIZED");
    assert_eq!(levels[1]["helpUrl"], "https://acrpull.dev/e/RegistryUnauthorized");
    // The first wait of what may be a grant that has not propagated yet.
    assert_eq!(levels[1]["retryTime"], "2026-11-18T11:06:55Z");
}

#[tokio::test]
async fn explain_denied_grant_names_grants_to_operators_only() {
    let scene = Scene::new().await;
    let mut request = granted_request();
    request["binding"]["namespace"] = json!("data");
    let public = "no grant allows namespace data this identity at registry prod.azurecr.io";
    let answer = explain(&scene, SYNCER, request.clone()).await;
    assert_eq!(
        (&answer["verdict"], &answer["reason"]),
        (&json!("VERDICT_DENIED"), &json!("POLICY_DENIED"))
    );
    assert_eq!(
        step(&answer, "grant"),
        &json!({
            "name": "grant",
            "verdict": "VERDICT_DENIED",
            "reason": "POLICY_DENIED",
            "detail": public,
            "helpUrl": "https://acrpull.dev/e/PolicyDenied",
        })
    );
    assert_eq!(answer["cacheLevels"], Value::Null);
    let answer = explain(&scene, OPERATOR, request.clone()).await;
    let detail = step(&answer, "grant")["detail"].as_str().unwrap();
    assert!(
        detail.contains(public) && detail.contains("team-web") && detail.contains("web-reads-team"),
        "{detail}"
    );

    for (caller, grant) in [(SYNCER, Value::Null), (OPERATOR, json!("web-reads-team"))] {
        let answer = explain(&scene, caller, granted_request()).await;
        assert_eq!(step(&answer, "grant")["grant"], grant, "{caller}");
        let way = "a grant allows all of it; identity team-web from the metadata service";
        let detail = if caller == OPERATOR {
            way
        } else {
            "a grant allows all of it"
        };
        assert_eq!(step(&answer, "grant")["detail"], detail, "{caller}");
    }
}

#[tokio::test]
async fn explain_ends_at_the_first_check_that_says_no() {
    let scene = Scene::new().await;
    let shown = subject_token("east", "system:serviceaccount:web:app");
    let mut request = federated_request(&shown);
    request["registry"] = json!("prod.example.com");
    let answer = explain(&scene, SYNCER, request).await;
    assert_eq!(answer["reason"], "REGISTRY_NOT_ALLOWED");
    assert_eq!(
        verdicts(&answer),
        pairs(&[
            ("caller", "PASSED"),
            ("request", "PASSED"),
            ("subject_token", "PASSED"),
            ("cloud", "PASSED"),
            ("registry", "DENIED"),
            ("namespace", "NOT_REACHED"),
            ("tenant", "NOT_REACHED"),
        ])
    );
    let of_west = federated_request(&subject_token("west", "system:serviceaccount:web:app"));
    let answer = explain(&scene, SYNCER, of_west).await;
    assert_eq!(answer["reason"], "SUBJECT_TOKEN_REJECTED");
    assert_eq!(verdicts(&answer)[2], ("subject_token".into(), "DENIED".into()));
    let answer = explain(&scene, SYNCER, json!({"registry": "x"})).await;
    assert_eq!(answer["detail"], "binding must be set");
    assert_eq!(
        verdicts(&answer),
        pairs(&[("caller", "PASSED"), ("request", "DENIED")])
    );
}

#[tokio::test]
async fn explain_without_subject_token_is_for_operators() {
    let scene = Scene::new().await;
    let answer = explain(&scene, SYNCER, federated_request("")).await;
    assert_eq!(answer["detail"], "federated.subject_token must be set");
    let answer = explain(&scene, OPERATOR, federated_request("")).await;
    assert_eq!(answer["verdict"], "VERDICT_PASSED");
    assert_eq!(verdicts(&answer)[2], ("subject_token".into(), "ASSUMED".into()));
    assert_eq!(answer["cacheLevels"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn explain_for_another_cluster_is_for_operators() {
    let scene = Scene::new().await;
    let message = |cluster: &str| json!({"request": granted_request(), "cluster": cluster});
    let ask =
        async |caller: &str, cluster: &str| scene.post(caller, "/v1/explain", &message(cluster)).await.json();
    assert_eq!(ask(SYNCER, "west").await["reason"], "CALLER_NOT_PERMITTED");
    assert_eq!(ask(SYNCER, "east").await["verdict"], "VERDICT_PASSED");
    let answer = ask(OPERATOR, "west").await;
    assert_eq!(
        (&answer["cluster"], &answer["reason"]),
        (&json!("west"), &json!("POLICY_DENIED"))
    );
    assert_eq!(
        step(&answer, "caller")["detail"],
        format!("{OPERATOR}, of cluster east, on behalf of cluster west")
    );
    assert_eq!(
        step(&ask(OPERATOR, "east").await, "caller")["detail"],
        format!("{OPERATOR}, of cluster east")
    );
    assert_eq!(ask(OPERATOR, "north").await["reason"], "INVALID_REQUEST");
    assert_eq!(ask(NOBODY, "").await["reason"], "CALLER_NOT_PERMITTED");
}
