//! What a fault does to a request, and how far the request gets before that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BodyVariant, JsonQuirk, RetryAfter, TokenFault};
use crate::Service;

/// What a compressed bomb becomes unless told: more than any answer of Azure, and still bearable for a client that
/// falls for it.
const BOMB_BYTES: u64 = 64 << 20;

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
    /// Closes the connection in order: a FIN, after TLS has said goodbye.
    Close {
        /// Where.
        at: CloseAt,
    },
    /// Resets the connection: a RST, whatever is still on its way.
    Reset {
        /// Where.
        at: CloseAt,
    },
    /// Spoils the TLS handshake of new connections.
    Tls {
        /// What is wrong with it.
        defect: TlsDefect,
    },
    /// Cuts the body.
    Truncate {
        /// Bytes that still arrive.
        bytes: usize,
        /// Announce the full length and break the connection; otherwise the short body looks complete.
        #[serde(default)]
        keep_content_length: bool,
    },
    /// Sends a chunk whose size is no number. HTTP/2 has no chunks: there it is bytes that are no frame.
    BadChunking {},
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
    /// Replaces the body by a small one that says `Content-Encoding: gzip` and becomes a large one, whether the client
    /// has asked for that or not.
    GzipBomb {
        /// What it becomes at least, in bytes.
        #[serde(default = "bomb_bytes")]
        bytes: u64,
    },
    /// Moves or removes `Date`, which otherwise tells the service's simulated time.
    DateHeader {
        /// Seconds added; null for no header.
        offset_s: Option<i64>,
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
    /// Half of the answer's head is sent; on HTTP/2 half of a frame's.
    MidHeaders,
    /// Half of the body is sent.
    MidBody,
}

/// Where a connection is closed or reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseAt {
    /// After TCP accept; always with a reset, as by a port where nobody listens.
    Accept,
    /// After the client's TLS hello.
    Tls,
    /// After the request was read.
    BeforeHeaders,
    /// After half of the answer's head; on HTTP/2 after half of a frame's.
    MidHeaders,
    /// After half of the body.
    MidBody,
}

/// What is wrong with a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsDefect {
    /// The certificate has expired.
    Expired,
    /// The certificate is for another host.
    WrongName,
    /// An authority that nobody trusts has signed the certificate.
    Untrusted,
    /// The server knows nothing later than TLS 1.0.
    OldVersion,
}

/// How far a request gets before a fault acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its connection was accepted.
    Accept,
    /// The client's hello was read.
    Hello,
    /// The hello is going to be answered: what spoils this does nothing to a connection that has it behind it.
    Handshake,
    /// It was read.
    Request,
    /// It was decided.
    Answer,
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
            Self::Hang { at: HangAt::Accept }
            | Self::Close { at: CloseAt::Accept }
            | Self::Reset { at: CloseAt::Accept } => Stage::Accept,
            Self::Hang { at: HangAt::Tls }
            | Self::Close { at: CloseAt::Tls }
            | Self::Reset { at: CloseAt::Tls } => Stage::Hello,
            Self::Tls { .. } => Stage::Handshake,
            Self::Hang {
                at: HangAt::BeforeHeaders,
            }
            | Self::Close {
                at: CloseAt::BeforeHeaders,
            }
            | Self::Reset {
                at: CloseAt::BeforeHeaders,
            }
            | Self::Status { .. }
            | Self::Throttle { .. }
            | Self::Latency { .. }
            | Self::Redirect { .. }
            | Self::Flip { .. } => Stage::Request,
            Self::Hang {
                at: HangAt::MidHeaders | HangAt::MidBody,
            }
            | Self::Close {
                at: CloseAt::MidHeaders | CloseAt::MidBody,
            }
            | Self::Reset {
                at: CloseAt::MidHeaders | CloseAt::MidBody,
            }
            | Self::SlowBody { .. }
            | Self::Truncate { .. }
            | Self::BadChunking {}
            | Self::ContentType { .. }
            | Self::Body { .. }
            | Self::GzipBomb { .. }
            | Self::DateHeader { .. }
            | Self::JsonQuirk(_)
            | Self::Token(_)
            | Self::WrongRealm { .. } => Stage::Answer,
        }
    }
}

impl Stage {
    /// What `service` lacks for a fault at this stage.
    pub(super) fn missing_at(self, service: Service) -> Option<&'static str> {
        match (self, service) {
            (Self::Hello | Self::Handshake, Service::Imds | Service::Proxy) => Some("TLS"),
            // It opens tunnels, whose content it does not see.
            (Self::Answer, Service::Proxy) => Some("answer of its own"),
            _ => None,
        }
    }
}

const fn bomb_bytes() -> u64 {
    BOMB_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_unknown_key_is_refused() {
        for text in [
            r#"{"type":"latency","ms":1,"jiter_ms":2}"#,
            r#"{"type":"token","ttls":1}"#,
            r#"{"type":"bad_chunking","at":"body"}"#,
            r#"{"type":"tls","defect":"expired","host":"a"}"#,
        ] {
            assert!(serde_json::from_str::<Action>(text).is_err(), "{text}");
        }
    }
}
