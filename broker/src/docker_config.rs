//! The bytes of `.dockerconfigjson`. Pure.

use std::io::Write as _;

use base64::{engine::general_purpose::STANDARD, write::EncoderWriter};
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
    const FRAME: usize = 96;
    let (host, token) = (registry.as_str(), token.expose());
    let pair = USERNAME.len() + 1 + token.len();
    // Once and for all: a buffer that grows leaves pieces of the token behind.
    let bytes = FRAME + host.len() + token.len() + pair.div_ceil(3) * 4;
    let mut payload = Zeroizing::new(Vec::with_capacity(bytes));
    payload.extend_from_slice(br#"{"auths":{""#);
    payload.extend_from_slice(host.as_bytes());
    payload.extend_from_slice(br#"":{"username":""#);
    payload.extend_from_slice(USERNAME.as_bytes());
    payload.extend_from_slice(br#"","password":"#);
    write_json_string(&mut payload, token);
    payload.extend_from_slice(br#","auth":""#);
    write_base64(&mut payload, &[USERNAME, ":", token]);
    payload.extend_from_slice(br#""}}}"#);
    Bytes::from_owner(payload)
}

/// Writing to memory does not fail, and text is always JSON.
fn write_json_string(payload: &mut Vec<u8>, text: &str) {
    let written = serde_json::to_writer(payload, text);
    debug_assert!(written.is_ok(), "a string is JSON");
}

/// The same for base64: without a copy of what is encoded.
fn write_base64(payload: &mut Vec<u8>, parts: &[&str]) {
    let mut writer = EncoderWriter::new(payload, &STANDARD);
    let written = parts
        .iter()
        .try_for_each(|part| writer.write_all(part.as_bytes()))
        .and_then(|()| writer.finish().map(drop));
    debug_assert!(written.is_ok(), "memory takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e3_docker_config_is_byte_for_byte_this() {
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
    fn e3_docker_config_of_a_hostile_token_names_the_requested_registry_alone() {
        let payload = render(
            &"example.azurecr.io".parse().unwrap(),
            &Secret::from("a\"},\"x\":{\"b".to_owned()),
        );
        let value: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let registries: Vec<_> = value["auths"].as_object().unwrap().keys().collect();
        assert_eq!(registries, ["example.azurecr.io"]);
        assert_eq!(
            value["auths"]["example.azurecr.io"]["password"],
            "a\"},\"x\":{\"b"
        );
    }
}
