//! One record per call, with the right fields.

use axum::http::StatusCode;

use super::*;
use crate::test_scene::{
    CLIENT, NOBODY, OPERATOR, REGISTRY, SYNCER, federated_request, granted_request, subject_token,
    wire::status,
};

fn key() -> FingerprintKey {
    FingerprintKey::new(&[7; 32]).unwrap()
}

async fn scene() -> Scene {
    Scene::with_audit(AuditConfig {
        key: Some(key()),
        ..AuditConfig::default()
    })
    .await
}

#[tokio::test]
async fn o1_issued_credential_has_its_caller_its_grant_and_its_fingerprint() {
    for wire in BOTH {
        let scene = scene().await;
        ask(&scene, wire, Call::GetDockerConfig, SYNCER, &granted_request()).await;
        let record = only_record(&scene).await;
        assert_record(&record, &common(wire, "get_docker_config"));
        assert_record(
            &record,
            &json!({
                "/caller/cluster": "east", "/caller/subject": SYNCER, "/caller/key_id": "east-1",
                "/request/namespace": "web", "/request/binding": "web", "/request/service_accounts": ["app"],
                "/request/identity/kind": "broker_owned", "/request/identity/name": "team-web", "/request/registry": REGISTRY,
                "/request/scopes": ["repository:team/web:pull"],
                "/decision": "allow", "/policy": "grant", "/grant": "web-reads-team", "/outcome": "issued",
                "/reason": null, "/credential/scopes": ["repository:team/web:pull"],
                "/credential/expires": "2026-11-18T12:21:40.000Z", "/fingerprint_key": key().id(),
            }),
        );
        assert_eq!(record["caller"]["key_thumbprint"].as_str().unwrap().len(), 43);
        // The token has no `jti`.
        assert_eq!(
            record["caller"]["token_fingerprint"],
            key().fingerprint(&token(SYNCER))
        );

        // The same entry of the cache, in the form in which the token is to be seen.
        let answer = ask(
            &scene,
            WireFormat::Http,
            Call::GetAccessToken,
            SYNCER,
            &granted_request(),
        )
        .await;
        let handed_out = answer.json()["token"].as_str().unwrap().to_owned();
        let records = scene.records().await;
        assert_eq!(records.len(), 2);
        for record in &records {
            assert_eq!(
                record["credential"]["token_fingerprint"],
                key().fingerprint(&handed_out)
            );
        }
        assert_eq!(records[1]["method"], "get_access_token");
        assert_ne!(records[0]["call"], records[1]["call"]);
    }
}

#[tokio::test]
async fn o1_caller_that_keeps_what_it_has_is_recorded_without_a_token() {
    for wire in BOTH {
        let scene = scene().await;
        let http = WireFormat::Http;
        let first = ask(&scene, http, Call::GetDockerConfig, SYNCER, &granted_request()).await;
        let first = first.json();
        let mut again = granted_request();
        again["held"] = json!({"fingerprint": first["fingerprint"], "expireTime": first["expireTime"]});
        ask(&scene, wire, Call::GetDockerConfig, SYNCER, &again).await;
        let records = scene.records().await;
        assert_eq!(records.len(), 2);
        assert_record(
            &records[1],
            &json!({
                "/decision": "allow", "/outcome": "not_modified", "/credential/token_fingerprint": null,
                "/credential/payload_fingerprint": records[0]["credential"]["payload_fingerprint"],
            }),
        );
    }
}

#[tokio::test]
async fn o1_refusals_of_known_callers_say_who_what_and_why() {
    let mut elsewhere = granted_request();
    elsewhere["binding"]["namespace"] = json!("other");
    let cases = [
        (SYNCER, &elsewhere, "POLICY_DENIED", json!("other")),
        (SYNCER, &json!({}), "INVALID_REQUEST", Value::Null),
        (NOBODY, &granted_request(), "CALLER_NOT_PERMITTED", Value::Null),
    ];
    for wire in BOTH {
        for (caller, message, reason, namespace) in &cases {
            let scene = scene().await;
            ask(&scene, wire, Call::GetDockerConfig, caller, message).await;
            let record = only_record(&scene).await;
            assert_record(&record, &common(wire, "get_docker_config"));
            assert_record(
                &record,
                &json!({
                    "/caller/subject": caller, "/decision": "deny", "/outcome": "refused", "/reason": reason,
                    "/request/namespace": namespace, "/grant": null, "/policy": null, "/credential": null,
                }),
            );
            assert!(record["detail"].as_str().is_some_and(|why| !why.is_empty()));
        }
    }
}

#[tokio::test]
async fn o1_message_that_does_not_decode_is_recorded_once() {
    let scene = scene().await;
    let mut garbage = request(WireFormat::Grpc, Call::Explain, &token(SYNCER), &json!({}));
    *garbage.body_mut() = Body::from([&[0, 0, 0, 0, 20][..], &[0xff; 20]].concat());
    scene.send(garbage).await;
    let record = only_record(&scene).await;
    let expected = json!({"/decision": "deny", "/reason": "INVALID_REQUEST", "/caller/subject": SYNCER});
    assert_record(&record, &expected);

    let scene = self::scene().await;
    let mut form = request(WireFormat::Http, Call::Explain, &token(SYNCER), &json!({}));
    form.headers_mut()
        .insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(scene.send(form).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_record(&only_record(&scene).await, &expected);
}

#[tokio::test]
async fn o1_message_that_is_compressed_is_refused_and_not_cancelled() {
    let scene = scene().await;
    let mut compressed = request(
        WireFormat::Grpc,
        Call::GetDockerConfig,
        &token(SYNCER),
        &granted_request(),
    );
    compressed
        .headers_mut()
        .insert("grpc-encoding", "gzip".parse().unwrap());
    let answer = scene.send(compressed).await;
    assert_eq!(status(&answer).code(), tonic::Code::Unimplemented);
    assert_record(
        &only_record(&scene).await,
        &json!({
            "/decision": "deny", "/outcome": "refused", "/reason": "INVALID_REQUEST",
            "/detail": "compression is not offered",
        }),
    );
}

#[tokio::test]
async fn o1_denials_say_whom_and_what_the_request_came_to() {
    let account = "system:serviceaccount:web:app";
    let mut elsewhere = federated_request(&subject_token("east", account));
    elsewhere["binding"]["namespace"] = json!("other");
    let mut no_tenant = federated_request(&subject_token("east", account));
    no_tenant["federated"].as_object_mut().unwrap().remove("tenantId");
    let mut no_grant = granted_request();
    no_grant["binding"]["namespace"] = json!("other");
    for wire in BOTH {
        for (message, reason, subject, name) in [
            (&elsewhere, "SUBJECT_TOKEN_REJECTED", json!(account), Value::Null),
            (&no_tenant, "INVALID_REQUEST", json!(account), Value::Null),
            (&no_grant, "POLICY_DENIED", Value::Null, json!("team-web")),
        ] {
            let scene = scene().await;
            ask(&scene, wire, Call::GetDockerConfig, SYNCER, message).await;
            assert_record(
                &only_record(&scene).await,
                &json!({
                    "/decision": "deny", "/reason": reason, "/request/identity/client_id": CLIENT,
                    "/request/identity/subject": subject, "/request/identity/name": name,
                }),
            );
        }
    }
}

#[tokio::test]
async fn o1_forged_token_is_a_refusal_that_quotes_nothing_of_it() {
    let genuine = token(SYNCER);
    let (signed, _signature) = genuine.rsplit_once('.').unwrap();
    let forged = format!("{signed}.Zm9yZ2VkLXNpZ25hdHVyZQ");
    for wire in BOTH {
        let scene = scene().await;
        scene
            .send(request(wire, Call::GetDockerConfig, &forged, &granted_request()))
            .await;
        let record = only_record(&scene).await;
        assert_record(&record, &common(wire, "get_docker_config"));
        assert_record(
            &record,
            &json!({
                "/decision": "deny", "/outcome": "refused", "/reason": "CLUSTER_NOT_REGISTERED",
                "/caller": null, "/request": null,
            }),
        );
        let text = scene.log().text();
        assert!(!text.contains(SYNCER) && !text.contains("east"), "{text}");
    }
}

#[tokio::test]
async fn o1_failure_of_azure_is_allowed_and_failed() {
    for wire in BOTH {
        let scene = scene().await;
        scene.azure.take_role();
        ask(&scene, wire, Call::GetDockerConfig, SYNCER, &granted_request()).await;
        let record = only_record(&scene).await;
        assert_record(
            &record,
            &json!({
                "/decision": "allow", "/grant": "web-reads-team", "/outcome": "failed",
                "/reason": "REGISTRY_UNAUTHORIZED", "/credential": null,
            }),
        );
        assert!(!scene.log().text().contains("canary-of-azure"));
    }
}

#[tokio::test]
async fn o1_caller_that_goes_away_leaves_a_record() {
    for wire in BOTH {
        let scene = scene().await;
        scene.azure.hold();
        {
            let message = granted_request();
            let call = ask(&scene, wire, Call::GetDockerConfig, SYNCER, &message);
            tokio::select! {
                _ = call => panic!("Azure is held"),
                () = scene.azure.is_asked() => {}
            }
        }
        let record = only_record(&scene).await;
        let expected =
            json!({"/decision": "allow", "/outcome": "cancelled", "/reason": null, "/credential": null});
        assert_record(&record, &expected);
    }
}

#[tokio::test]
async fn o1_deadline_that_passes_leaves_a_record() {
    let scene = scene().await;
    scene.azure.hold();
    let mut late = request(
        WireFormat::Grpc,
        Call::GetDockerConfig,
        &token(SYNCER),
        &granted_request(),
    );
    late.headers_mut().insert("grpc-timeout", "50m".parse().unwrap());
    scene.send(late).await;
    let record = only_record(&scene).await;
    let expected = json!({"/outcome": "deadline", "/reason": "DEADLINE_EXCEEDED", "/credential": null});
    assert_record(&record, &expected);
}

#[tokio::test]
async fn o1_what_operators_do_is_recorded() {
    for wire in BOTH {
        let scene = scene().await;
        ask(&scene, wire, Call::GetDockerConfig, SYNCER, &granted_request()).await;
        let explain = json!({"request": granted_request()});
        ask(&scene, wire, Call::Explain, OPERATOR, &explain).await;
        ask(
            &scene,
            wire,
            Call::Invalidate,
            OPERATOR,
            &json!({"registry": REGISTRY}),
        )
        .await;
        ask(&scene, wire, Call::ListClusters, OPERATOR, &json!({})).await;
        let records = scene.records().await;
        assert_eq!(records.len(), 4);
        for (record, method) in records
            .iter()
            .skip(1)
            .zip(["explain", "invalidate", "list_clusters"])
        {
            assert_record(record, &common(wire, method));
            assert_record(
                record,
                &json!({
                    "/caller/subject": OPERATOR, "/decision": "allow", "/policy": "role",
                    "/outcome": "answered", "/credential": null,
                }),
            );
        }
        let explained = json!({
            "/request/namespace": "web", "/explain/cluster": "east", "/explain/verdict": "PASSED",
        });
        assert_record(&records[1], &explained);
        assert_record(
            &records[2],
            &json!({"/invalidate/registry": REGISTRY, "/invalidate/dropped": 2, "/invalidate/cluster": null}),
        );
    }
}

#[tokio::test]
async fn o1_health_and_description_leave_no_record() {
    let scene = scene().await;
    let request = Request::get("/openapi.json").body(Body::empty()).unwrap();
    assert_eq!(scene.send(request).await.status, StatusCode::OK);
    assert!(scene.records().await.is_empty());
}

#[tokio::test]
async fn o1_log_that_is_off_records_nothing_and_stops_nothing() {
    let config = AuditConfig {
        sink: AuditSink::Off,
        ..AuditConfig::default()
    };
    let metrics = AuditMetrics::register(&mut prometheus_client::registry::Registry::default());
    let (audit, _end) = Audit::start(config, Arc::new(runtime::SystemClock), metrics).unwrap();
    assert!(audit.begin_call().fingerprint("token").is_none());
    audit.close().await;
}
