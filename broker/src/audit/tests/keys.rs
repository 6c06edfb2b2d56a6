//! The key of fingerprints: said at the start, and said again when it changes.

use prometheus_client::registry::Registry;

use super::*;
use crate::audit::test_log;

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
    let of_first = audit.fingerprint("token");
    audit.adopt(with_key(Some(1)));
    assert_eq!(audit.fingerprint("token"), of_first);
    audit.adopt(with_key(Some(2)));
    assert_ne!(audit.fingerprint("token"), of_first);
    audit.adopt(with_key(None));
    let of_random = audit.fingerprint("token");
    audit.adopt(with_key(None));
    assert_eq!(
        audit.fingerprint("token"),
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
