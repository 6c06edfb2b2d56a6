//! Every way in which a call can end, over both wires, and the one record that it leaves.

mod blocked;
mod calls;
mod flood;
mod keys;
mod secrecy;

use axum::body::Body;
use http::Request;
use proto::v1;
use serde_json::{Value, json};

use super::*;
use crate::{
    access::TABLE,
    test_scene::{Answer, Scene, token},
};

const BOTH: [WireFormat; 2] = [WireFormat::Grpc, WireFormat::Http];

fn name(wire: WireFormat) -> &'static str {
    match wire {
        WireFormat::Grpc => "grpc",
        WireFormat::Http => "http",
    }
}

/// A call with whatever `bearer` is.
fn request(wire: WireFormat, call: Call, bearer: &str, message: &Value) -> Request<Body> {
    let rule = TABLE.iter().find(|rule| rule.call == call).unwrap();
    let request = Request::builder().header("authorization", format!("Bearer {bearer}"));
    match wire {
        WireFormat::Grpc => {
            let message = encoded(call, message.clone());
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            request
                .method("POST")
                .uri(rule.grpc.unwrap())
                .header("content-type", "application/grpc")
                .body(Body::from([&[0][..], &length, &message].concat()))
        }
        WireFormat::Http => {
            let (method, path) = rule.http.clone().unwrap();
            request
                .method(method)
                .uri(path)
                .header("content-type", "application/json")
                .body(Body::from(message.to_string()))
        }
    }
    .unwrap()
}

fn encoded(call: Call, message: Value) -> Vec<u8> {
    fn to<M: prost::Message + serde::de::DeserializeOwned>(message: Value) -> Vec<u8> {
        serde_json::from_value::<M>(message).unwrap().encode_to_vec()
    }
    match call {
        Call::GetDockerConfig => to::<v1::GetDockerConfigRequest>(message),
        Call::GetAccessToken => to::<v1::GetAccessTokenRequest>(message),
        Call::Explain => to::<v1::ExplainRequest>(message),
        Call::ListClusters => to::<v1::ListClustersRequest>(message),
        Call::Invalidate => to::<v1::InvalidateRequest>(message),
        Call::HealthCheck | Call::HealthWatch | Call::OpenApi => Vec::new(),
    }
}

async fn ask(scene: &Scene, wire: WireFormat, call: Call, subject: &str, message: &Value) -> Answer {
    scene.send(request(wire, call, &token(subject), message)).await
}

/// The one record that there is.
async fn only_record(scene: &Scene) -> Value {
    let mut records = scene.records().await;
    assert_eq!(records.len(), 1, "{records:#?}");
    records.remove(0)
}

/// Of the fields that `expected` has, those that `record` has otherwise.
fn differences(record: &Value, expected: &Value) -> Vec<String> {
    let fields = expected.as_object().unwrap();
    fields
        .iter()
        .filter(|(path, value)| record.pointer(path).unwrap_or(&Value::Null) != *value)
        .map(|(path, value)| format!("{path}: {value} wanted, got {:?}", record.pointer(path)))
        .collect()
}

/// Asserts the fields that `expected` names as JSON pointers; null is for what must be absent.
#[track_caller]
fn assert_record(record: &Value, expected: &Value) {
    let differences = differences(record, expected);
    assert!(differences.is_empty(), "{differences:#?} in {record:#}");
}

fn common(wire: WireFormat, method: &str) -> Value {
    json!({
        "/audit": "acrpull.dev/v1",
        "/time": "2026-11-18T11:06:40.000Z",
        "/wire": name(wire),
        "/method": method,
    })
}
