//! The way in, for both wires: finds the call in the table, authenticates the caller and checks its role from the
//! headers alone, and only then lets the body be read. Whatever it refuses, it refuses in the form that the wire speaks.
//!
//! Nothing reaches a service or a route but through here; what it lets through carries an [`Admitted`].

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http_body_util::Limited;
use proto::Reason;
use runtime::telemetry::propagation;
use tonic::Status;
use tracing::{Instrument as _, Span};

use crate::{
    access::{self, Admits, Rule, Unlisted},
    audit::facts::Facts,
    channel::Peer,
    error::CredentialError,
    grpc,
    http::problem,
    metrics::WireFormat,
    serve::{Conduct, Panicked},
    service::{Admitted, Service},
};

/// What a gRPC body may have beyond its message: the prefix with its length, and as much as one HTTP/2 frame brings at
/// once (RFC 9113 section 4.2), so that the decoder sees the length and refuses in its own way before this limit does.
const GRPC_FRAMING_BYTES: usize = 5 + 16 * 1024;
const JSON: &str = "application/json";

/// Lets a request through, or answers it.
pub async fn gate(State(service): State<Service>, request: Request, next: Next) -> Response {
    let wire = wire_of(request.headers());
    let rule = match access::find(wire, request.method(), request.uri().path()) {
        Ok(rule) => rule,
        Err(unlisted) => return refuse_unlisted(wire, &unlisted, &request),
    };
    let request = limited(request, wire, rule);
    let Admits::Only(roles) = rule.admits else {
        return next.run(request).await;
    };
    let span = span(wire, rule);
    let trace_id = propagation::continue_trace(&span, request.headers());
    let authenticated = async {
        let connection = request.extensions().get::<Arc<Conduct>>();
        let facts = Facts {
            address: connection.and_then(|connection| connection.peer()),
            peer: request.extensions().get::<Arc<Peer>>().cloned(),
            trace_id,
            ..Facts::default()
        };
        match service
            .admit(wire, rule.call, roles, request.headers(), facts)
            .await
        {
            Ok(admitted) => {
                // Now, and not when it is answered: that may take half a minute, in which the caller needs its seat.
                if let Some(connection) = connection {
                    connection.admitted(admitted.cluster());
                }
                let_in(wire, admitted, request, next).await
            }
            Err(error) => refusal(wire, &error),
        }
    };
    authenticated.instrument(span).await
}

async fn let_in(wire: WireFormat, admitted: Admitted, mut request: Request, next: Next) -> Response {
    let record = admitted.record().clone();
    if wire == WireFormat::Http && request.method() == http::Method::POST && !is_json(request.headers()) {
        record.fail(&CredentialError::new(
            Reason::InvalidRequest,
            "the content type must be application/json",
        ));
        record.write().await;
        return problem::media_type(&request, JSON);
    }
    request.extensions_mut().insert(admitted);
    let response = next.run(request).await;
    if response.extensions().get::<Panicked>().is_some() {
        record.fail(&CredentialError::titled(Reason::Internal));
        record.write().await;
        return response;
    }
    if record.is_settled() {
        return response;
    }
    // The call was not reached: the wire's own decoder has refused the message, in words of its own.
    let refused = grpc::undecoded(&response);
    record.fail(&refused.error);
    record.write().await;
    if refused.keeps_its_answer {
        return response;
    }
    refusal(wire, &refused.error)
}

fn wire_of(headers: &HeaderMap) -> WireFormat {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map_or(&b""[..], |kind| kind.as_bytes());
    match kind.strip_prefix(b"application/grpc") {
        Some([] | [b'+' | b';', ..]) => WireFormat::Grpc,
        // `application/grpc-web` is another protocol.
        Some(_) | None => WireFormat::Http,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(JSON))
}

/// No more of the body is read than the table says, whoever reads it.
fn limited(request: Request, wire: WireFormat, rule: &Rule) -> Request {
    let framing = match wire {
        WireFormat::Grpc => GRPC_FRAMING_BYTES,
        WireFormat::Http => 0,
    };
    request.map(|body| Body::new(Limited::new(body, rule.max_message_bytes + framing)))
}

/// The span of a call, with the fields of its wire and those that the service fills in: one that is not declared here is
/// dropped without a word.
macro_rules! call_span {
    ($($field:tt)*) => {
        tracing::info_span!(
            "call",
            otel.kind = "server",
            acrpull.caller = tracing::field::Empty,
            acrpull.caller.role = tracing::field::Empty,
            acrpull.cluster = tracing::field::Empty,
            acrpull.binding.namespace = tracing::field::Empty,
            acrpull.binding.name = tracing::field::Empty,
            acrpull.registry.server = tracing::field::Empty,
            acrpull.policy.rule = tracing::field::Empty,
            acrpull.policy.report_only = tracing::field::Empty,
            $($field)*
        )
    };
}

/// The server's span of a call, named as the semantic conventions say; the service fills in who and what.
fn span(wire: WireFormat, rule: &Rule) -> Span {
    let method = rule.grpc.and_then(|path| path.strip_prefix('/'));
    let route = rule.http.as_ref();
    match wire {
        WireFormat::Grpc => call_span!(otel.name = method, rpc.system.name = "grpc"),
        WireFormat::Http => call_span!(
            otel.name = route.map(|(method, path)| format!("{method} {path}")),
            http.request.method = route.map(|(method, _path)| method.as_str()),
            http.route = route.map(|(_method, path)| path)
        ),
    }
}

fn refusal(wire: WireFormat, error: &CredentialError) -> Response {
    match wire {
        WireFormat::Grpc => Status::from(error).into_http::<Body>(),
        WireFormat::Http => problem::of(error),
    }
}

fn refuse_unlisted(wire: WireFormat, unlisted: &Unlisted, request: &Request) -> Response {
    match (wire, unlisted) {
        (WireFormat::Grpc, _) => Status::unimplemented("no such method").into_http::<Body>(),
        (WireFormat::Http, Unlisted::Path) => problem::not_found(),
        (WireFormat::Http, Unlisted::Method(allowed)) => (
            [(header::ALLOW, allowed.as_str())],
            problem::wrong_method(request),
        )
            .into_response(),
        (WireFormat::Http, Unlisted::NotGrpc) => problem::media_type(request, "application/grpc"),
    }
}

#[cfg(test)]
mod tests;
