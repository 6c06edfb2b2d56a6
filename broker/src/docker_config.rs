//! The bytes of `.dockerconfigjson`. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use proto::types::RegistryHost;
use runtime::Secret;
use zeroize::Zeroizing;

/// User name that tells ACR that the password is a token of its own.
const USERNAME: &str = "00000000-0000-0000-0000-000000000000";

/// Renders the payload for one registry and one token, in memory that is wiped when the last user lets go of it.
///
/// `auth` overrides the other two for a kubelet; clients that read only `username` and `password` exist, so both are there.
/// Field order and spacing are fixed: equal tokens give equal bytes on every replica.
pub fn render(registry: &RegistryHost, token: &Secret) -> Bytes {
    let password = Zeroizing::new(serde_json::Value::from(token.expose()).to_string());
    let pair = Zeroizing::new(format!("{USERNAME}:{}", token.expose()));
    let auth = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    // One allocation of the right size: a text that grows ends up with half of its memory unused, and leaves parts of the
    // token behind in the places that it grew out of.
    let payload = [
        r#"{"auths":{""#,
        &registry.to_string(),
        r#"":{"username":""#,
        USERNAME,
        r#"","password":"#,
        password.as_str(),
        r#","auth":""#,
        auth.as_str(),
        r#""}}}"#,
    ]
    .concat();
    Bytes::from_owner(Zeroizing::new(payload.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_config_is_byte_for_byte_this() {
        let payload = render(
            &"example.azurecr.io".parse().unwrap(),
            &Secret::from("a.b.c".to_owned()),
        );
        assert_eq!(
            payload,
            r#"{"auths":{"example.azurecr.io":{"username":"00000000-0000-0000-0000-000000000000","password":"a.b.c","auth":"MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOmEuYi5j"}}}"#
        );
    }

    #[test]
    fn docker_config_of_a_hostile_token_is_still_json() {
        let payload = render(
            &"example.azurecr.io".parse().unwrap(),
            &Secret::from("a\"},\"x\":{\"b".to_owned()),
        );
        let value: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(value["auths"].as_object().unwrap().len(), 1);
        assert_eq!(
            value["auths"]["example.azurecr.io"]["password"],
            "a\"},\"x\":{\"b"
        );
    }
}
