//! Tokens as a registry may issue them: their claims are read, never believed beyond reason (guarantee E3).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hostile::{document, fuzz};

use super::*;

const NOW: Duration = Duration::from_secs(1_795_000_000);
/// One in the middle of its life, and those at both ends of what is believed.
const CLAIMS: [&str; 4] = [
    r#"{"exp":1795004500,"access":[{"type":"repository","name":"team/app","actions":["pull","metadata_read"]},{"type":"registry","name":"catalog","actions":["*"]}]}"#,
    r#"{"exp":1795000000}"#,
    r#"{"exp":1795086401}"#,
    r#"{"exp":1795086400,"access":null,"aud":"example.azurecr.io"}"#,
];

#[test]
fn fuzz_registry_token_e3_is_believed_within_reason() {
    let now = UNIX_EPOCH + NOW;
    let asked = ScopeSet::from_field("repository:team/app:pull").unwrap();
    let host: RegistryHost = "example.azurecr.io".parse().unwrap();
    fuzz(document(&CLAIMS), |claims| {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let Ok(issued) = issued(token.clone().into(), &host, now, Skew::default()) else {
            return;
        };
        assert!(issued.expires_at > now && issued.expires_at <= now + MAX_LIFETIME);
        assert_eq!(issued.token.expose(), token);
        // What a token grants goes into answers and into the status of objects: scopes, and no other text.
        if let Ok(granted) = granted(&issued.token, &asked) {
            assert_eq!(ScopeSet::from_field(&granted.to_field()), Ok(granted));
        }
    });
}
