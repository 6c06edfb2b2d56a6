//! The proto3 JSON mapping, in and out.
//!
//! `null` is the default of a field (see [`nulls`]).
//!
//! Reading refuses fields that the contract does not have: a misspelt `scopes` that is passed over would ask for more
//! than was meant. Writing leaves out fields that are false, zero or empty; readers must pass over fields that they do
//! not know, because a later version may add some (guarantee R5).

mod nulls;

use std::{borrow::Cow, io};

use proto::Reason;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::CredentialError;

/// How long a text will be that nobody needs yet.
struct Length(usize);

/// Reads a message.
///
/// # Errors
/// The body is no JSON, or not this message.
pub(super) fn read<M: DeserializeOwned + prost::Name>(body: &[u8]) -> Result<M, CredentialError> {
    let mut body = nulls::left_out(body);
    let message = serde_json::from_slice(&body);
    if let Cow::Owned(copy) = &mut body {
        copy.zeroize();
    }
    message.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let problem = match field_at_fault(&error.to_string()) {
            Some(problem) => format!("{problem}, line {line}, column {column}"),
            None => format!("line {line}, column {column}"),
        };
        CredentialError::new(
            Reason::InvalidRequest,
            format!(
                "the body must be a {} in the proto3 JSON mapping: {problem}",
                M::NAME
            ),
        )
    })
}

/// Writes a message. It may hold a token: what is copied on the way is wiped, and what is written never moves.
///
/// # Errors
/// It has a time or a span that is none.
pub(super) fn write<M: Serialize>(message: &M) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let mut value = serde_json::to_value(message)?;
    zulu(&mut value);
    let written = exact(&value);
    wipe(&mut value);
    written
}

/// The text of a value, in memory of just its length.
fn exact(value: &Value) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value)?;
    let mut written = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *written, value)?;
    Ok(written)
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(entries) => entries.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `unknown field x` or `duplicate field x`, where `x` is a name. The parser's text quotes the input, and the input
/// holds a token: nothing else of it is passed on.
fn field_at_fault(text: &str) -> Option<String> {
    /// Longer than any field of the contract, shorter than any token.
    const MAX_NAME_CHARS: usize = 40;
    let (problem, rest) = text.split_once(" field `")?;
    let (name, _rest) = rest.split_once('`')?;
    let is_name = !name.is_empty()
        && name.len() <= MAX_NAME_CHARS
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    (is_name && matches!(problem, "unknown" | "duplicate")).then(|| format!("{problem} field {name}"))
}

/// The mapping writes times with `Z`; the library that encodes them writes the equivalent `+00:00`. Fields that are
/// times are those called so; a test of the contract makes sure of that.
fn zulu(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name.ends_with("Time")
                    && let Value::String(time) = value
                    && let Some(local) = time.strip_suffix("+00:00")
                {
                    *time = format!("{local}Z");
                } else {
                    zulu(value);
                }
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(zulu),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proto::v1::{CacheLevel, ExplainResponse, GetDockerConfigRequest, GetDockerConfigResponse};
    use serde_json::json;

    use super::*;

    #[test]
    fn json_times_end_with_z_at_every_depth() {
        let time = Some(proto::time::to_timestamp(
            UNIX_EPOCH + Duration::new(1_795_000_000, 528_062_450),
        ));
        let message = ExplainResponse {
            cache_levels: vec![CacheLevel {
                name: "entra".into(),
                expire_time: time,
                ..CacheLevel::default()
            }],
            ..ExplainResponse::default()
        };
        let written: Value = serde_json::from_slice(&write(&message).unwrap()).unwrap();
        assert_eq!(
            written,
            json!({"cacheLevels": [{"name": "entra", "expireTime": "2026-11-18T11:06:40.528062450Z"}]})
        );
        // What was written reads back as itself.
        assert_eq!(
            serde_json::from_value::<ExplainResponse>(written).unwrap(),
            message
        );
    }

    #[test]
    fn json_bytes_are_base64_and_empty_fields_left_out() {
        let message = GetDockerConfigResponse {
            docker_config_json: "{}".into(),
            fingerprint: vec![0xff; 16].into(),
            ..GetDockerConfigResponse::default()
        };
        let written: Value = serde_json::from_slice(&write(&message).unwrap()).unwrap();
        assert_eq!(
            written,
            json!({"dockerConfigJson": "e30=", "fingerprint": "/////////////////////w=="})
        );
    }

    #[test]
    fn r5_json_takes_both_spellings_of_a_field() {
        for body in [r#"{"serviceAccounts":["a"]}"#, r#"{"service_accounts":["a"]}"#] {
            let message: GetDockerConfigRequest = read(body.as_bytes()).unwrap();
            assert_eq!(message.service_accounts, ["a"]);
        }
    }

    #[test]
    fn json_field_that_does_not_exist_is_named() {
        let error = read::<GetDockerConfigRequest>(br#"{"registry":"a","scope":["b"]}"#).unwrap_err();
        assert_eq!(error.reason, Reason::InvalidRequest);
        assert_eq!(
            error.message,
            "the body must be a GetDockerConfigRequest in the proto3 JSON mapping: unknown field scope, line 1, column 23"
        );
    }

    #[test]
    fn l1_json_that_does_not_fit_is_not_quoted() {
        let bodies = [
            r#"{"federated":{"subjectToken":{"canary":1}}}"#,
            r#"{"federated":"canary.canary.canary"}"#,
            r#"{"canary.canary-canary":1}"#,
            r#"{"canarycanarycanarycanarycanarycanarycanary":1}"#,
            r#"{"registry":1,"federated":{"subjectToken":"canary"}"#,
            "canary",
        ];
        for body in bodies {
            let error = read::<GetDockerConfigRequest>(body.as_bytes()).unwrap_err();
            let is_field_name = body.contains(r#"{"canary":1}"#);
            assert!(
                is_field_name || !error.message.contains("canary"),
                "{}",
                error.message
            );
        }
    }
}
