//! One call over either wire, with any headers: as no honest client would make it. Both wires must say the same.

use axum::body::Body;
use http::{Request, StatusCode};
use prost::Message;
use proto::v1;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{Answer, Scene};
use crate::{
    access::{Call, Rule, TABLE},
    metrics::WireFormat,
};

pub(crate) const BOTH: [WireFormat; 2] = [WireFormat::Grpc, WireFormat::Http];

pub(crate) fn grpc_request(path: &str, bearer: Option<&str>, body: Body) -> Request<Body> {
    let mut request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(token) = bearer {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(body).unwrap()
}

/// A message as gRPC frames it.
pub(crate) fn framed(message: &[u8]) -> Body {
    let length = u32::try_from(message.len()).unwrap();
    let frame = [&[0][..], &length.to_be_bytes(), message].concat();
    Body::from(frame)
}

pub(crate) fn status(answer: &Answer) -> Status {
    Status::from_header_map(&answer.headers).unwrap()
}

pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

impl Scene {
    /// Makes a call with these `authorization` headers: the JSON form of the answer, or the reason of the catalogue.
    pub(crate) async fn call(
        &self,
        wire: WireFormat,
        call: Call,
        authorization: &[String],
        message: &Value,
    ) -> Result<Value, String> {
        let rule = TABLE.iter().find(|rule| rule.call == call).unwrap();
        let mut request = match wire {
            WireFormat::Grpc => grpc_request(rule.grpc.unwrap(), None, framed(&encoded(call, message))),
            WireFormat::Http => plain_request(rule, message),
        };
        for value in authorization {
            request
                .headers_mut()
                .append("authorization", value.parse().unwrap());
        }
        let answer = self.send(request).await;
        match wire {
            WireFormat::Grpc => of_grpc(call, &answer),
            WireFormat::Http => of_http(&answer),
        }
    }

    /// Asks for a pull Secret's content as whoever has this token.
    pub(crate) async fn ask(&self, wire: WireFormat, bearer: &str, message: &Value) -> Result<Value, String> {
        let authorization = [format!("Bearer {bearer}")];
        self.call(wire, Call::GetDockerConfig, &authorization, message)
            .await
    }
}

fn plain_request(rule: &Rule, message: &Value) -> Request<Body> {
    let (method, path) = rule.http.clone().unwrap();
    let body = if method == http::Method::GET {
        Body::empty()
    } else {
        Body::from(message.to_string())
    };
    let request = Request::builder().method(method).uri(path);
    request
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn of_http(answer: &Answer) -> Result<Value, String> {
    if answer.status == StatusCode::OK {
        return Ok(answer.json());
    }
    let said = answer.json()["reason"].as_str().unwrap().to_owned();
    let known = proto::Reason::from_wire(&said).unwrap();
    assert_eq!(known.http_status(), answer.status.as_u16(), "{said}");
    Err(said)
}

fn of_grpc(call: Call, answer: &Answer) -> Result<Value, String> {
    let refusal = status(answer);
    if refusal.code() == tonic::Code::Ok {
        return Ok(decoded(call, &answer.body[5..]));
    }
    let said = reason(&refusal);
    let known = proto::Reason::from_wire(&said).unwrap();
    assert_eq!(known.grpc_code(), refusal.code(), "{said}");
    Err(said)
}

fn encoded(call: Call, message: &Value) -> Vec<u8> {
    fn bytes<M: Message + DeserializeOwned>(message: &Value) -> Vec<u8> {
        serde_json::from_value::<M>(message.clone())
            .unwrap()
            .encode_to_vec()
    }
    match call {
        Call::GetDockerConfig => bytes::<v1::GetDockerConfigRequest>(message),
        Call::GetAccessToken => bytes::<v1::GetAccessTokenRequest>(message),
        Call::Explain => bytes::<v1::ExplainRequest>(message),
        Call::ListClusters => bytes::<v1::ListClustersRequest>(message),
        Call::Invalidate => bytes::<v1::InvalidateRequest>(message),
        Call::HealthCheck | Call::HealthWatch | Call::OpenApi => panic!("not a call of ours over gRPC"),
    }
}

fn decoded(call: Call, bytes: &[u8]) -> Value {
    fn json<M: Message + Default + Serialize>(bytes: &[u8]) -> Value {
        serde_json::to_value(M::decode(bytes).unwrap()).unwrap()
    }
    match call {
        Call::GetDockerConfig => json::<v1::GetDockerConfigResponse>(bytes),
        Call::GetAccessToken => json::<v1::GetAccessTokenResponse>(bytes),
        Call::Explain => json::<v1::ExplainResponse>(bytes),
        Call::ListClusters => json::<v1::ListClustersResponse>(bytes),
        Call::Invalidate => json::<v1::InvalidateResponse>(bytes),
        Call::HealthCheck | Call::HealthWatch | Call::OpenApi => panic!("not a call of ours over gRPC"),
    }
}
