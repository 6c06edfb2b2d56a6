//! The OpenAPI 3.1 description of the HTTP routes: paths from the table of [`access`](crate::access), everything else
//! from the contract and its comments. Nothing in it is written by hand, so that it cannot drift.

mod comments;
mod schema;

use serde_json::{Map, Value, json};

use crate::access::{Admits, Call, Role, Rule, TABLE};
use comments::{Comments, text};
use schema::Schemas;

/// A method of the contract.
struct Method {
    name: String,
    description: String,
    input: String,
    output: String,
}

/// The document.
pub fn document() -> Value {
    let mut schemas = Schemas::of(proto::descriptors());
    let mut paths = Map::new();
    for rule in &TABLE {
        if let Some((method, path)) = &rule.http {
            let operation = operation(rule, &mut schemas);
            paths.insert(
                (*path).to_owned(),
                json!({method.as_str().to_ascii_lowercase(): operation}),
            );
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "acrpull broker",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Hands out credentials for Azure Container Registry",
            "description": "The calls of acrpull.broker.v1 in the proto3 JSON mapping. Fields that are false, zero or \
                empty are left out of answers. An answer may have fields that this document does not know: pass over \
                them. A request may not: a field that the broker does not know is refused.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.into_components(problem()),
            "securitySchemes": {"serviceAccount": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "A Kubernetes ServiceAccount token for the broker's audience.",
            }},
        },
    })
}

fn operation(rule: &Rule, schemas: &mut Schemas<'_>) -> Value {
    let Some(method) = method_of(rule) else {
        // The one route that no method of the contract stands behind.
        return json!({
            "operationId": "GetOpenApi",
            "summary": "This document.",
            "security": [],
            "responses": {"200": {
                "description": "This document.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }},
        });
    };
    let (summary, description) = text(&method.description);
    let has_body = rule
        .http
        .as_ref()
        .is_some_and(|(method, _path)| *method == http::Method::POST);
    let (member, question) = if has_body {
        let body = json!({
            "required": true,
            "description": format!("At most {} KiB.", rule.max_message_bytes / 1024),
            "content": {"application/json": {"schema": schemas.question(&method.input)}},
        });
        ("requestBody", body)
    } else {
        ("parameters", schemas.parameters(&method.input))
    };
    json!({
        "operationId": method.name,
        "summary": summary,
        "description": format!("{description}\n\n{}", who(rule.admits)),
        "security": match rule.admits {
            Admits::Anybody => json!([]),
            Admits::Only(_) => json!([{"serviceAccount": []}]),
        },
        member: question,
        "responses": {
            "200": {
                "description": "The answer.",
                "headers": {"Cache-Control": {"schema": {"const": "no-store"}}},
                "content": {"application/json": {"schema": schemas.answer(&method.output)}},
            },
            "default": {
                "description": "Refused or failed; `reason` says why.",
                "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    })
}

fn method_of(rule: &Rule) -> Option<Method> {
    if rule.call == Call::OpenApi {
        return None;
    }
    let path = rule.grpc?.strip_prefix('/')?;
    for file in &proto::descriptors().file {
        let comments = Comments::of(file);
        for (at, service) in file.service.iter().enumerate() {
            for (nth, method) in service.method.iter().enumerate() {
                if path == format!("{}.{}/{}", file.package(), service.name(), method.name()) {
                    return Some(Method {
                        name: method.name().to_owned(),
                        description: comments.method(at, nth),
                        input: method.input_type().to_owned(),
                        output: method.output_type().to_owned(),
                    });
                }
            }
        }
    }
    None
}

fn who(admits: Admits) -> String {
    match admits {
        Admits::Anybody => "For anybody.".to_owned(),
        Admits::Only(roles) => {
            let names: Vec<&str> = roles
                .iter()
                .map(|role| match role {
                    Role::Syncer => "syncers",
                    Role::Workload => "workloads that ask for themselves",
                    Role::Operator => "operators",
                })
                .collect();
            format!("For {}.", names.join(", "))
        }
    }
}

/// RFC 9457, with our members; `http::problem` writes them.
fn problem() -> Value {
    let maybe = |kind: &str, description: &str| json!({"type": [kind, "null"], "description": description});
    json!({
        "type": "object",
        "description": "Why there is no answer (RFC 9457).",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "description": "Where the reason is explained, or about:blank."},
            "title": {"type": "string", "description": "The reason in words."},
            "status": {"type": "integer", "description": "The HTTP status."},
            "detail": {"type": "string", "description": "What happened and whose move it is."},
            "reason": {"type": "string", "description": "As in google.rpc.ErrorInfo.reason. Absent for about:blank."},
            "retryAfterSeconds": maybe("integer", "When to ask again, if that is known."),
            "traceId": maybe("string", "The trace of the request, when traces are on."),
            "azureRequestId": maybe("string", "What Azure's support asks for."),
        },
    })
}

#[cfg(test)]
mod tests;
