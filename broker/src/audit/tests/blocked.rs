//! A log that takes nothing: what becomes of calls, in either mode. How long they wait is a matter of the queue's tests.

use axum::http::StatusCode;
use tokio::time::timeout;

use super::*;
use crate::{
    audit::test_log,
    config::OnBlocked,
    test_scene::{SYNCER, granted_request},
};

/// One whose log is blocked from here on.
async fn blocked(on_blocked: OnBlocked) -> Scene {
    let scene = Scene::with_audit(AuditConfig {
        on_blocked,
        ..AuditConfig::default()
    })
    .await;
    scene.lines().await;
    scene.log().hold();
    scene
}

async fn ask_for_a_token(scene: &Scene) -> (StatusCode, Value) {
    let call = Call::GetAccessToken;
    let answer = ask(scene, WireFormat::Http, call, SYNCER, &granted_request()).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn o1_blocked_log_lets_calls_go_on_where_it_should() {
    let scene = blocked(OnBlocked::Continue).await;
    let (status, body) = ask_for_a_token(&scene).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body["token"].is_string());
    assert_eq!(scene.log().lines().len(), 1, "nothing was written meanwhile");
    scene.log().release();
    assert_eq!(only_record(&scene).await["outcome"], "issued");
}

#[tokio::test]
async fn o1_blocked_log_lets_no_credential_out_where_it_should_not_and_recovers() {
    let scene = blocked(OnBlocked::Refuse).await;
    // The first record is with the writer when its call gives up, the second one still in the queue.
    for _ in 0..2 {
        let (status, body) = ask_for_a_token(&scene).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["reason"], "AUDIT_UNAVAILABLE");
        assert!(body.get("token").is_none());
    }
    let metrics = scene.metrics();
    for line in [
        r#"acrpull_broker_audit_records_total{outcome="unconfirmed"} 2"#,
        r#"acrpull_broker_audit_records_total{outcome="lost"} 0"#,
        r#"transport="http",outcome="AUDIT_UNAVAILABLE"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    scene.log().release();
    // The writer may need more than 100 ms, on a machine that is busy with other tests.
    let recovered = async {
        loop {
            let (status, body) = ask_for_a_token(&scene).await;
            if status == StatusCode::OK {
                return body;
            }
        }
    };
    let body = timeout(Duration::from_secs(20), recovered).await.unwrap();
    assert!(body["token"].is_string());

    let records = scene.records().await;
    let outcome = |record: &Value| record["outcome"].as_str().unwrap().to_owned();
    // Of a call with two records the last one counts.
    assert_eq!(records[0]["call"], records[1]["call"]);
    assert_eq!(outcome(&records[0]), "issued");
    assert_eq!(outcome(records.last().unwrap()), "issued");
    for refused in &records[1..3] {
        assert_eq!(outcome(refused), "failed");
        let expected = json!({
            "/decision": "allow", "/reason": "AUDIT_UNAVAILABLE", "/credential": null,
        });
        assert_record(refused, &expected);
    }
}

#[tokio::test]
async fn o1_log_tells_of_the_records_that_it_lacks() {
    let mut registry = prometheus_client::registry::Registry::default();
    let (audit, log) = test_log::audit(AuditConfig::default(), &mut registry);
    audit.written().await;
    log.hold();
    let line = || Line(format!("\"{}\"\n", "x".repeat(64 * 1024)).into_bytes());
    // One with the writer, 63 in the queue, and then there is no room.
    for _ in 0..100 {
        audit.put_now(line());
    }
    log.release();
    audit.written().await;
    let before = log.lines().len() as u64;
    audit.put_now(Line(b"\"next\"\n".to_vec()));
    audit.written().await;
    let lines = log.lines();
    assert_eq!(lines.len() as u64, before + 2);
    let [.., next, lost] = &lines[..] else {
        panic!("{}", lines.len())
    };
    assert_eq!(lost["event"], "lost");
    // The first line is of the start.
    assert_eq!(lost["records"], 100 - (before - 1));
    assert_eq!(next, "next");
}

#[tokio::test]
async fn o1_refusals_need_no_confirmation() {
    let scene = blocked(OnBlocked::Refuse).await;
    let answer = ask(&scene, WireFormat::Http, Call::GetAccessToken, SYNCER, &json!({})).await;
    assert_eq!(answer.json()["reason"], "INVALID_REQUEST");
    scene.log().release();
    assert_eq!(only_record(&scene).await["reason"], "INVALID_REQUEST");
}
