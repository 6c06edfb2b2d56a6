//! Requests after decoding, and the payload that answers them.

use std::time::{Duration, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use broker::{
    docker_config,
    request::{DockerConfigRequest, RequestedIdentity},
};
use hostile::{document, fuzz, text};
use proto::v1::{GetDockerConfigRequest, get_docker_config_request::Identity};
use runtime::Secret;
use serde_json::Value;

const REQUESTS: [&str; 2] = [
    r#"{"binding":{"namespace":"shop","name":"web.v2","uid":"u"},"serviceAccounts":["web","batch"],"registry":"Example.azurecr.io",
        "scopes":["repository:team/app:pull","repository:b:push,pull"],"cloud":{"name":"AirgappedCloud","authorityHost":"https://login.example"},
        "federated":{"tenantId":"contoso.onmicrosoft.com","clientId":"1b461305-28be-5271-beda-bd9fd2e24251","subjectToken":"a.b.c"},
        "held":{"fingerprint":"AAAAAAAAAAAAAAAAAAAAAA==","expireTime":"2026-11-21T12:00:00Z"},
        "rejectedFingerprint":"AAAAAAAAAAAAAAAAAAAAAA==","minRemaining":"600s","force":true}"#,
    r#"{"binding":{"namespace":"shop","name":"web"},"serviceAccounts":["web"],"registry":"example.azurecr.io",
        "brokerOwned":{"resourceId":"/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web"}}"#,
];
/// 2100-01-01: times after it are refused, so that arithmetic with them cannot overflow.
const LATEST: Duration = Duration::from_secs(4_102_444_800);

fn is_object_name(name: &str, max_chars: usize) -> bool {
    !name.is_empty()
        && name.len() <= max_chars
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

#[test]
fn fuzz_request_is_bounded_in_every_field_or_refused_by_name() {
    const CANARY: &str = "canary of the subject token";
    fuzz(document(&REQUESTS), |json| {
        let Ok(mut message) = serde_json::from_str::<GetDockerConfigRequest>(&json) else {
            return;
        };
        if let Some(Identity::Federated(federated)) = &mut message.identity {
            CANARY.clone_into(&mut federated.subject_token);
        }
        match DockerConfigRequest::try_from(message) {
            Ok(request) => {
                assert!(is_object_name(&request.namespace, 63) && is_object_name(&request.binding, 253));
                assert!((1..=64).contains(&request.service_accounts.len()));
                assert!(
                    request
                        .service_accounts
                        .iter()
                        .all(|name| is_object_name(name, 253))
                );
                assert!(request.scopes.iter().count() <= 64);
                if let Some(held) = request.wish.held {
                    assert!(held.expires_at < UNIX_EPOCH + LATEST);
                }
                if let RequestedIdentity::Federated { subject_token, .. } = request.identity {
                    assert_eq!(subject_token.expose(), CANARY);
                }
            }
            Err(error) => assert!(
                !error.field.is_empty() && !error.to_string().contains(CANARY),
                "{error}"
            ),
        }
    });
}

/// Whatever a registry calls a token: the payload is JSON for one registry, and reads back.
#[test]
fn fuzz_docker_config_reads_back_with_any_token() {
    let tokens = text(&[
        "eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
        "a\"},\"evil.example\":{\"auth\":\"x",
        "\u{0}\u{7f}\\",
    ]);
    let hosts = text(&["example.azurecr.io"]);
    fuzz((hosts, tokens), |(host, token)| {
        let Ok(host) = host.parse() else { return };
        let payload = docker_config::render(&host, &Secret::from(token.clone()));
        let value: Value = serde_json::from_slice(&payload).unwrap();
        let auths = value["auths"].as_object().unwrap();
        assert_eq!((value.as_object().unwrap().len(), auths.len()), (1, 1));
        let entry = &auths[host.as_str()];
        assert_eq!(entry["password"], token);
        let auth = STANDARD.decode(entry["auth"].as_str().unwrap()).unwrap();
        assert_eq!(
            auth,
            format!("{}:{token}", entry["username"].as_str().unwrap()).as_bytes()
        );
    });
}
