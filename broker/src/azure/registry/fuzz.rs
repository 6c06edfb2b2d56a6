//! Answers of a registry: a token, or nothing.

use hostile::{document, fuzz};
use serde_json::Value;

use super::*;

#[test]
fn fuzz_registry_answer_holds_a_token_or_is_refused() {
    let bodies = [
        r#"{"refresh_token":"e30.e30.c2ln"}"#,
        r#"{"access_token":"e30.e30.c2ln","expires_in":1}"#,
    ];
    fuzz(document(&bodies), |body| {
        // An array counts as its fields in order; what is left is read by name.
        let Ok(Value::Object(fields)) = serde_json::from_str(&body) else {
            return;
        };
        if let Ok(answer) = parse::<RefreshTokenAnswer>(body.as_bytes()) {
            assert_eq!(fields["refresh_token"], answer.refresh_token.expose());
        }
        if let Ok(answer) = parse::<AccessTokenAnswer>(body.as_bytes()) {
            assert_eq!(fields["access_token"], answer.access_token.expose());
        }
    });
}
