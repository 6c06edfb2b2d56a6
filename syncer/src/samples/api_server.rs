//! An API server that says what a test wants and remembers what it was asked, without a network.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use kube::{
    Client,
    client::Body,
    core::{Status, response::StatusCause},
};
use serde_json::{Value, json};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Method and path.
    pub(crate) what: String,
    pub(crate) query: String,
    /// What was sent; null if that is nothing.
    pub(crate) body: Value,
}

/// The calls that were made.
pub(crate) type Calls = Arc<Mutex<Vec<Call>>>;

/// A client of the server, and the calls that it makes.
pub(crate) fn api_server(answer: impl Fn(&Call) -> (u16, Value) + Send + Sync + 'static) -> (Client, Calls) {
    let calls = Calls::default();
    let (log, answer) = (Arc::clone(&calls), Arc::new(answer));
    let server = tower::service_fn(move |request: Request<Body>| {
        let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let call = Call {
                what: format!("{} {}", parts.method, parts.uri.path()),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            let (code, answer) = answer(&call);
            log.lock().unwrap().push(call);
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    });
    (Client::new(server, "shop"), calls)
}

/// A refusal with this code.
pub(crate) fn refused(code: u16, message: &str) -> (u16, Value) {
    refused_for(code, message, &[])
}

/// The same for these fields, each with what is said of it.
pub(crate) fn refused_for(code: u16, message: &str, fields: &[(&str, &str)]) -> (u16, Value) {
    let causes: Vec<_> = fields
        .iter()
        .map(|(field, message)| StatusCause {
            reason: "FieldValueInvalid".to_owned(),
            message: (*message).to_owned(),
            field: (*field).to_owned(),
        })
        .collect();
    let reason = if code == 404 { "NotFound" } else { "" };
    let mut status = serde_json::to_value(Status::failure(message, reason).with_code(code)).unwrap();
    status["details"] = json!({ "causes": causes });
    (code, status)
}
