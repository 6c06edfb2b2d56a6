//! The document against the table, against itself, and against messages as they are really written.

use std::collections::BTreeSet;

use super::*;
use crate::test_scene::{OPERATOR, SYNCER, Scene, federated_request, granted_request, subject_token};

fn operations(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let mut operations = BTreeSet::new();
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            operations.insert((method.to_ascii_uppercase(), path.clone()));
        }
    }
    operations
}

fn resolve<'a>(document: &'a Value, reference: &str) -> &'a Value {
    document
        .pointer(reference.strip_prefix('#').unwrap())
        .unwrap_or(&Value::Null)
}

/// Calls `visit` for every object in the document.
fn walk(value: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            visit(fields);
            fields.values().for_each(|value| walk(value, visit));
        }
        Value::Array(entries) => entries.iter().for_each(|value| walk(value, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What does not fit `schema`, in the vocabulary that the generator writes; another word fails.
fn misfits(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, rule) in schema.as_object().unwrap() {
        let fits = match keyword.as_str() {
            "$ref" => {
                let target = resolve(document, rule.as_str().unwrap());
                found.extend(misfits(document, target, value, at));
                true
            }
            "type" => fits_type(rule, value),
            "enum" => rule.as_array().unwrap().contains(value),
            "properties" => {
                for (name, field) in value.as_object().unwrap() {
                    if let Some(schema) = rule.get(name) {
                        found.extend(misfits(document, schema, field, &format!("{at}/{name}")));
                    } else {
                        found.push(format!("{at}/{name} is not described"));
                    }
                }
                true
            }
            "items" => {
                for entry in value.as_array().unwrap() {
                    found.extend(misfits(document, rule, entry, &format!("{at}[]")));
                }
                true
            }
            "allOf" => {
                for part in rule.as_array().unwrap() {
                    found.extend(misfits(document, part, value, at));
                }
                true
            }
            "not" => !misfits(document, rule, value, at).is_empty(),
            "required" => rule
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "format" => {
                let text = value.as_str().unwrap();
                rule == "date-time" && text.ends_with('Z') && text.contains('T')
            }
            "pattern" => value.as_str().unwrap().ends_with('s'),
            "minimum" => value.as_i64().unwrap() >= rule.as_i64().unwrap(),
            "contentEncoding" | "description" | "additionalProperties" => true,
            other => panic!("{other} is not checked"),
        };
        if !fits {
            found.push(format!("{at} does not fit {keyword}"));
        }
    }
    found
}

fn fits_type(rule: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "null" => value.is_null(),
        other => panic!("{other} is not checked"),
    };
    rule.as_array()
        .map_or_else(|| is(rule), |names| names.iter().any(is))
}

fn assert_fits(document: &Value, schema: &str, value: &Value) {
    let schema = resolve(document, &format!("#/components/schemas/{schema}"));
    assert_eq!(
        misfits(document, schema, value, ""),
        Vec::<String>::new(),
        "{value}"
    );
}

#[test]
fn openapi_has_the_routes_of_the_table_and_no_other() {
    let listed = TABLE
        .iter()
        .filter_map(|rule| rule.http.as_ref())
        .map(|(method, path)| (method.to_string(), (*path).to_owned()))
        .collect();
    assert_eq!(operations(&document()), listed);
}

#[test]
fn openapi_references_resolve_and_everything_is_described() {
    let document = document();
    let mut references = 0;
    walk(&document, &mut |fields| {
        if let Some(Value::String(reference)) = fields.get("$ref") {
            references += 1;
            assert!(resolve(&document, reference).is_object(), "{reference}");
        }
        if let Some(Value::String(description)) = fields.get("description") {
            assert!(!description.trim().is_empty(), "{fields:?}");
        }
    });
    assert!(references > 20, "{references}");
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(
                !operation["summary"].as_str().unwrap().is_empty(),
                "{method} {path}"
            );
            let is_public = path == "/openapi.json";
            assert_eq!(
                operation["security"].as_array().unwrap().is_empty(),
                is_public,
                "{path}"
            );
        }
    }
}

#[test]
fn openapi_requests_admit_no_other_fields_and_answers_do() {
    let document = document();
    let is_closed = |name: &str| {
        let schema = resolve(&document, &format!("#/components/schemas/{name}"));
        assert!(schema.is_object(), "{name}");
        schema.get("additionalProperties") == Some(&json!(false))
    };
    for name in [
        "GetDockerConfigRequest",
        "FederatedIdentity",
        "ExplainRequest",
        "InvalidateRequest",
    ] {
        assert!(is_closed(name), "{name}");
    }
    for name in ["GetDockerConfigResponse", "ExplainStep", "Cluster", "Problem"] {
        assert!(!is_closed(name), "{name}");
    }
}

#[tokio::test]
async fn openapi_schemas_fit_what_is_really_sent_and_answered() {
    let document = document();
    let scene = Scene::new().await;
    let shown = subject_token("east", "system:serviceaccount:web:app");
    let mut request = granted_request();
    request["minRemaining"] = json!("60s");
    request["held"] =
        json!({"fingerprint": "AAAAAAAAAAAAAAAAAAAAAA==", "expireTime": "2026-11-18T11:10:00Z"});
    request["cloud"] = json!({"name": "PublicCloud"});
    for request in [&request, &federated_request(&shown)] {
        assert_fits(&document, "GetDockerConfigRequest", request);
        assert_fits(&document, "GetAccessTokenRequest", request);
    }
    let mut both = federated_request("a.b.c");
    both["brokerOwned"] = json!({"clientId": "x"});
    let schema = resolve(&document, "#/components/schemas/GetDockerConfigRequest");
    assert!(
        !misfits(&document, schema, &both, "").is_empty(),
        "two identities at once"
    );

    let explained = json!({"request": request, "cluster": "east"});
    assert_fits(&document, "ExplainRequest", &explained);
    let answered = [
        (SYNCER, "/v1/docker-config", &request, "GetDockerConfigResponse"),
        (SYNCER, "/v1/access-token", &request, "GetAccessTokenResponse"),
        (OPERATOR, "/v1/explain", &explained, "ExplainResponse"),
        (
            OPERATOR,
            "/v1/invalidate",
            &json!({"all": true}),
            "InvalidateResponse",
        ),
        (SYNCER, "/v1/invalidate", &json!({"all": true}), "Problem"),
    ];
    for (caller, path, message, schema) in answered {
        let answer = scene.post(caller, path, message).await.json();
        assert!(
            answer.as_object().is_some_and(|fields| !fields.is_empty()),
            "{path}"
        );
        assert_fits(&document, schema, &answer);
    }
    let clusters = scene.get(OPERATOR, "/v1/clusters").await.json();
    assert_fits(&document, "ListClustersResponse", &clusters);
    let served = scene.get("", "/openapi.json").await.json();
    assert_eq!(served, document);
}
