//! Token answers as Entra and IMDS may write them.

use hostile::{document, fuzz};
use serde_json::Value;

use super::*;

const ANSWERS: [&str; 2] = [
    r#"{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"e30.e30.c2ln"}"#,
    r#"{"access_token":"e30.e30.c2ln","client_id":"c","expires_in":"86399","expires_on":"1","resource":"r","token_type":"bearer"}"#,
];

#[test]
fn fuzz_token_answer_keeps_its_token_and_a_believable_lifetime() {
    fuzz(document(&ANSWERS), |body| {
        for endpoint in [Endpoint::Entra, Endpoint::Imds] {
            let Ok((rewritten, lifetime)) = normalized(endpoint, body.as_bytes()) else {
                continue;
            };
            assert!(!lifetime.is_zero() && lifetime <= MAX_LIFETIME);
            let Ok(Value::Object(before)) = serde_json::from_str(&body) else {
                continue;
            };
            let after: Value = serde_json::from_slice(&rewritten).unwrap();
            assert_eq!(before["access_token"], after["access_token"]);
            assert!(
                after["access_token"]
                    .as_str()
                    .is_some_and(|token| !token.is_empty())
            );
        }
    });
}
