//! The key of fingerprints: said at the start, and said again when it changes.

use prometheus_client::registry::Registry;

use super::*;
use crate::{
    audit::test_log,
    test_scene::{SYNCER, granted_request},
};

fn with_key(byte: Option<u8>) -> AuditConfig {
    AuditConfig {
        key: byte.map(|byte| FingerprintKey::new(&[byte; 32]).unwrap()),
        ..AuditConfig::default()
    }
}

#[tokio::test]
async fn o1_key_is_said_and_its_change_too() {
    let id = |byte| FingerprintKey::new(&[byte; 32]).unwrap().id().to_owned();
    let (audit, log) = test_log::audit(with_key(Some(1)), &mut Registry::default());
    let of_first = audit.begin_call().fingerprint("token");
    audit.adopt(with_key(Some(1)));
    assert_eq!(audit.begin_call().fingerprint("token"), of_first);
    audit.adopt(with_key(Some(2)));
    assert_ne!(audit.begin_call().fingerprint("token"), of_first);
    audit.adopt(with_key(None));
    let of_random = audit.begin_call().fingerprint("token");
    audit.adopt(with_key(None));
    assert_eq!(
        audit.begin_call().fingerprint("token"),
        of_random,
        "it lasts as long as the process"
    );
    audit.written().await;
    let said: Vec<_> = log
        .lines()
        .into_iter()
        .map(|line| {
            (
                line["event"].clone(),
                line["fingerprint_key"].clone(),
                line["fingerprint_key_is_random"].clone(),
            )
        })
        .collect();
    assert_eq!(said.len(), 3);
    assert_eq!(said[0], (json!("start"), json!(id(1)), json!(false)));
    assert_eq!(said[1], (json!("key"), json!(id(2)), json!(false)));
    assert_eq!((&said[2].0, &said[2].2), (&json!("key"), &json!(true)));
}

#[tokio::test]
async fn o1_call_that_is_under_way_when_the_key_changes_keeps_its_own() {
    let scene = Scene::with_audit(with_key(Some(1))).await;
    scene.azure.hold();
    let change = async {
        scene.azure.is_asked().await;
        scene.audit().adopt(with_key(Some(2)));
        scene.azure.release();
    };
    let (http, call, message) = (WireFormat::Http, Call::GetAccessToken, granted_request());
    let (answer, ()) = tokio::join!(ask(&scene, http, call, SYNCER, &message), change);
    let key = FingerprintKey::new(&[1; 32]).unwrap();
    let handed_out = answer.json()["token"].as_str().unwrap().to_owned();
    assert_record(
        &only_record(&scene).await,
        &json!({
            "/fingerprint_key": key.id(),
            "/caller/token_fingerprint": key.fingerprint(&token(SYNCER)),
            "/credential/token_fingerprint": key.fingerprint(&handed_out),
        }),
    );
}
