//! Requests and responses, in both encodings: what decodes reads back as itself, and never prints its credential.

use std::fmt::Debug;

use hostile::{bytes, document, fuzz};
use prost::Message;
use proto::v1::{GetDockerConfigRequest, GetDockerConfigResponse, get_docker_config_request::Identity};
use serde::{Serialize, de::DeserializeOwned};

const REQUESTS: [&str; 2] = [
    r#"{"binding":{"namespace":"shop","name":"web","uid":"u"},"serviceAccounts":["web"],"registry":"example.azurecr.io",
        "scopes":["repository:team/app:pull"],"cloud":{"name":"PublicCloud"},"minRemaining":"600s","force":true,
        "federated":{"tenantId":"t","clientId":"c","subjectToken":"a.b.c"},
        "held":{"fingerprint":"AAAAAAAAAAAAAAAAAAAAAA==","expireTime":"2026-11-21T12:00:00Z"},"rejectedFingerprint":""}"#,
    r#"{"binding":{"namespace":"shop","name":"web"},"brokerOwned":{"resourceId":"/subscriptions/s"},"minRemaining":"1.5s"}"#,
];
const RESPONSES: [&str; 2] = [
    r#"{"dockerConfigJson":"eyJhdXRocyI6e319","expireTime":"2026-11-21T13:00:00.25Z","refreshTime":"2026-11-21T12:30:00Z",
        "grantedScopes":["repository:team/app:pull"],"fingerprint":"AAAAAAAAAAAAAAAAAAAAAA==","degraded":true}"#,
    r#"{"notModified":true,"expireTime":"2026-11-21T13:00:00Z","refreshTime":"2026-11-21T12:30:00+02:00"}"#,
];

fn encoded<M: Message + DeserializeOwned>(documents: &[&str]) -> Vec<Vec<u8>> {
    let messages = documents
        .iter()
        .map(|json| serde_json::from_str::<M>(json).unwrap());
    messages.map(|message| message.encode_to_vec()).collect()
}

fn reads_back<M>(message: &M)
where
    M: Message + Debug + Default + PartialEq + Serialize + DeserializeOwned,
{
    assert_eq!(
        M::decode(message.encode_to_vec().as_slice()).as_ref(),
        Ok(message)
    );
    // Times that JSON cannot say are an error, and never another time.
    if let Ok(json) = serde_json::to_string(message) {
        let read: M = serde_json::from_str(&json).unwrap();
        assert!(read == *message, "{json}");
    }
}

fn hides_its_token(mut message: GetDockerConfigRequest) {
    const CANARY: &str = "canary of the subject token";
    if let Some(Identity::Federated(federated)) = &mut message.identity {
        CANARY.clone_into(&mut federated.subject_token);
        assert!(!format!("{federated:?}").contains(CANARY));
    }
    assert!(!format!("{message:?}").contains(CANARY));
}

#[test]
fn fuzz_request_bytes_read_back_and_print_no_token() {
    let seeds = encoded::<GetDockerConfigRequest>(&REQUESTS);
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    fuzz(bytes(&seeds), |bytes| {
        if let Ok(message) = GetDockerConfigRequest::decode(bytes.as_slice()) {
            reads_back(&message);
            hides_its_token(message);
        }
    });
}

#[test]
fn fuzz_request_json_reads_back_and_prints_no_token() {
    fuzz(document(&REQUESTS), |json| {
        if let Ok(message) = serde_json::from_str::<GetDockerConfigRequest>(&json) {
            reads_back(&message);
            hides_its_token(message);
        }
    });
}

#[test]
fn fuzz_response_bytes_read_back() {
    let seeds = encoded::<GetDockerConfigResponse>(&RESPONSES);
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    fuzz(bytes(&seeds), |bytes| {
        if let Ok(message) = GetDockerConfigResponse::decode(bytes.as_slice()) {
            reads_back(&message);
        }
    });
}

#[test]
fn fuzz_response_json_reads_back() {
    fuzz(document(&RESPONSES), |json| {
        if let Ok(message) = serde_json::from_str::<GetDockerConfigResponse>(&json) {
            reads_back(&message);
        }
    });
}
