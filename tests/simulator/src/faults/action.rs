//! What a fault does to a request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RetryAfter;

/// What a fault does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Answers with a status of its own; the service is not asked.
    Status {
        /// HTTP status.
        code: u16,
        /// Body; empty unless given.
        #[serde(default)]
        body: String,
        /// Content type; none unless given.
        #[serde(default)]
        content_type: Option<String>,
        /// Further headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// 429 in the service's own words.
    Throttle {
        /// `Retry-After`: seconds, `"http-date"` for 30 s ahead, `"garbage"`, or null for none.
        #[serde(default)]
        retry_after: Option<RetryAfter>,
        /// Seconds count down from the first hit, not below 0.
        #[serde(default)]
        countdown: bool,
    },
    /// Delays the answer.
    Latency {
        /// Milliseconds.
        ms: u64,
        /// Up to so many more, at random.
        #[serde(default)]
        jitter_ms: u64,
    },
    /// Sends the body slowly.
    SlowBody {
        /// Bytes per second.
        bytes_per_s: u64,
    },
    /// Stays silent until the client gives up.
    Hang {
        /// Where.
        at: HangAt,
    },
    /// Closes the connection.
    Close {
        /// Where.
        at: CloseAt,
    },
    /// Cuts the body.
    Truncate {
        /// Bytes that still arrive.
        bytes: usize,
        /// Announce the full length and break the connection; otherwise the short body looks complete.
        #[serde(default)]
        keep_content_length: bool,
    },
    /// Changes or removes the content type.
    ContentType {
        /// The new one; null for none.
        value: Option<String>,
    },
    /// Replaces the body.
    Body {
        /// By what.
        body: BodyVariant,
    },
    /// Redirects with 307.
    Redirect {
        /// `Location`.
        to: String,
    },
    /// Oddities in a JSON body.
    JsonQuirk(JsonQuirk),
    /// Something wrong with the token that is issued.
    Token(TokenFault),
    /// Sends clients of a challenge to another host's token endpoint.
    WrongRealm {
        /// The host.
        host: String,
    },
    /// Changes the state and then lets the request pass: a role revoked at the third call.
    Flip {
        /// JSON pointer (RFC 6901) into the state.
        pointer: String,
        /// What to put there.
        value: Value,
    },
}

/// Where a hang sets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HangAt {
    /// TCP is accepted, and nothing more. Only the service is known.
    Accept,
    /// The client's TLS hello is read and never answered. Service and host are known.
    Tls,
    /// The request is read and never answered.
    BeforeHeaders,
    /// Half of the body is sent.
    MidBody,
}

/// Where a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseAt {
    /// After TCP accept, with a reset.
    Accept,
    /// After the client's TLS hello.
    Tls,
    /// After the request was read.
    BeforeHeaders,
    /// After half of the body.
    MidBody,
}

/// A body instead of the service's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyVariant {
    /// This text.
    Raw(String),
    /// Nothing.
    Empty,
    /// A page, as proxies send it.
    Html,
    /// So many bytes of valid JSON text.
    Huge(usize),
    /// The service's body after a byte order mark.
    Bom,
    /// Bytes that are not UTF-8.
    InvalidUtf8,
    /// The service's body with every member of the object twice.
    DuplicateKeys,
    /// Ten thousand arrays in each other.
    DeepJson,
}

/// Oddities in a JSON body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an oddity of its own, in any combination"
)]
pub struct JsonQuirk {
    /// `expires_in` is text.
    pub expires_in_string: bool,
    /// `expires_on` is a number.
    pub expires_on_number: bool,
    /// The trailer of `error_description` is separated by CR LF.
    pub crlf_description: bool,
    /// Apostrophes are written `\u0027`.
    pub unicode_escapes: bool,
    /// A member nobody knows.
    pub extra_fields: bool,
    /// Every other member that is not a token is null.
    pub null_fields: bool,
    /// These members are left out.
    pub missing: Vec<String>,
}

/// Something wrong with the token that is issued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a defect of its own; names are the JSON"
)]
pub struct TokenFault {
    /// Its lifetime.
    pub ttl_s: Option<i64>,
    /// Added to `exp`.
    pub exp_delta_s: i64,
    /// Added to `nbf`.
    pub nbf_delta_s: i64,
    /// Added to `iat`.
    pub iat_delta_s: i64,
    /// How `exp` is written.
    pub exp_as: ExpiryAs,
    /// No JWT at all.
    pub opaque: bool,
    /// Empty text.
    pub empty: bool,
    /// Three parts that are not base64.
    pub not_b64: bool,
    /// Another `aud`.
    pub wrong_aud: Option<String>,
    /// Without a signature.
    pub header_none: bool,
    /// With so many bytes of padding.
    pub size_bytes: Option<usize>,
}

/// How `exp` is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryAs {
    /// As it should be.
    #[default]
    Number,
    /// With a fraction.
    Float,
    /// As text.
    String,
    /// Not at all.
    Missing,
}

/// How far a request gets before a fault acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Accept,
    Tls,
    Request,
}

impl Action {
    /// A bare status.
    pub fn status(code: u16) -> Self {
        Self::Status {
            code,
            body: String::new(),
            content_type: None,
            headers: BTreeMap::new(),
        }
    }

    /// A throttled answer with `Retry-After` in seconds.
    pub fn throttle_s(seconds: i64) -> Self {
        Self::Throttle {
            retry_after: Some(RetryAfter::Seconds(seconds)),
            countdown: false,
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        match self {
            Self::Hang { at: HangAt::Accept } | Self::Close { at: CloseAt::Accept } => Stage::Accept,
            Self::Hang { at: HangAt::Tls } | Self::Close { at: CloseAt::Tls } => Stage::Tls,
            Self::Hang {
                at: HangAt::BeforeHeaders | HangAt::MidBody,
            }
            | Self::Close {
                at: CloseAt::BeforeHeaders | CloseAt::MidBody,
            }
            | Self::Status { .. }
            | Self::Throttle { .. }
            | Self::Latency { .. }
            | Self::SlowBody { .. }
            | Self::Truncate { .. }
            | Self::ContentType { .. }
            | Self::Body { .. }
            | Self::Redirect { .. }
            | Self::JsonQuirk(_)
            | Self::Token(_)
            | Self::WrongRealm { .. }
            | Self::Flip { .. } => Stage::Request,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_unknown_key_is_refused() {
        assert!(serde_json::from_str::<Action>(r#"{"type":"latency","ms":1,"jiter_ms":2}"#).is_err());
        assert!(serde_json::from_str::<Action>(r#"{"type":"token","ttls":1}"#).is_err());
    }
}
