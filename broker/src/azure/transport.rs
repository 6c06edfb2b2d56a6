//! One HTTP exchange with Azure, as a trait: the only seam between the discipline above it and the network below it.
//!
//! A transport sends what it is given once, and bounds it in time and size. It decides nothing else: not whether to
//! send, not what an answer means, and it never repeats a request.

use bytes::Bytes;
use http::{Request, Response};
use zeroize::Zeroizing;

/// Which endpoint is called: what an answer means depends on it, and which client carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Entra's token endpoint.
    Entra,
    /// The instance metadata service.
    Imds,
    /// A registry's `/oauth2/exchange`.
    Exchange,
    /// A registry's `/oauth2/token`.
    Token,
}

/// An answer with its body, which may hold a token and is wiped.
pub type Answer = Response<Zeroizing<Vec<u8>>>;

/// Carries requests.
#[async_trait::async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` once and reads the whole answer. One other than 2xx may come without its body.
    ///
    /// # Errors
    /// There is no whole answer, see [`TransportError`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the exchange up.
    async fn exchange(&self, endpoint: Endpoint, request: Request<Bytes>) -> Result<Answer, TransportError>;
}

/// Why there is no answer. Fixed words only: the causes below may quote what a peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TransportError {
    /// The name does not exist.
    #[error("the name does not resolve")]
    NoSuchName,
    /// The resolver failed; the name may well exist.
    #[error("the name could not be looked up")]
    LookupFailed,
    /// The request is for a host that is no registry of any cloud. Nothing was sent.
    #[error("the host is no registry that the configuration allows")]
    ForbiddenHost,
    /// The name means an address that no token goes to.
    #[error("the name resolves to an address that is not allowed")]
    ForbiddenAddress,
    /// No connection.
    #[error("no connection")]
    Connect,
    /// A connection that must not be used.
    #[error("the TLS handshake failed: {0}")]
    Tls(TlsFault),
    /// Nothing within the deadline.
    #[error("no answer in time, waiting for {0}")]
    Timeout(Stage),
    /// The connection broke before the answer was whole.
    #[error("the connection broke")]
    Broken,
    /// The answer is larger than any honest one.
    #[error("the {0} of the answer are too large")]
    Oversized(Part),
    /// The request cannot be sent as it is.
    #[error("the request could not be built")]
    Request,
}

/// What is wrong with the other side's TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsFault {
    /// No trusted root stands behind the certificate.
    Untrusted,
    /// The certificate is for another name.
    WrongName,
    /// The certificate is not valid now: expired, not yet valid, or our clock is off.
    Expired,
    /// No common version of the protocol.
    OldVersion,
    /// Anything else.
    Other,
}

/// What was being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The connection, TLS included.
    Connect,
    /// The head of the answer.
    Headers,
    /// The rest of it.
    Body,
    /// A transport that keeps no deadline of its own.
    Whole,
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The headers.
    Headers,
    /// The bytes of the body.
    Body,
}

impl Endpoint {
    /// Label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::Imds => "imds",
            Self::Exchange => "acr_exchange",
            Self::Token => "acr_token",
        }
    }

    /// Span name: method and route.
    pub(super) const fn span_name(self) -> &'static str {
        match self {
            Self::Entra => "POST /{tenant}/oauth2/v2.0/token",
            Self::Imds => "GET /metadata/identity/oauth2/token",
            Self::Exchange => "POST /oauth2/exchange",
            Self::Token => "POST /oauth2/token",
        }
    }
}

impl TransportError {
    /// A fixed word for traces.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NoSuchName => "no_such_name",
            Self::LookupFailed => "lookup_failed",
            Self::ForbiddenHost => "forbidden_host",
            Self::ForbiddenAddress => "forbidden_address",
            Self::Connect => "connect",
            Self::Tls(TlsFault::Untrusted) => "tls_untrusted",
            Self::Tls(TlsFault::WrongName) => "tls_wrong_name",
            Self::Tls(TlsFault::Expired) => "tls_expired",
            Self::Tls(TlsFault::OldVersion) => "tls_old_version",
            Self::Tls(TlsFault::Other) => "tls",
            Self::Timeout(Stage::Connect) => "timeout_connect",
            Self::Timeout(Stage::Headers) => "timeout_headers",
            Self::Timeout(Stage::Body) => "timeout_body",
            Self::Timeout(Stage::Whole) => "timeout",
            Self::Broken => "broken",
            Self::Oversized(_) => "oversized",
            Self::Request => "request",
        }
    }
}

impl std::fmt::Display for TlsFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Untrusted => "the certificate is not trusted",
            Self::WrongName => "the certificate is for another name",
            Self::Expired => "the certificate is not valid at this time",
            Self::OldVersion => "no common protocol version",
            Self::Other => "it is not what the protocol says",
        })
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "a connection",
            Self::Headers => "the headers",
            Self::Body => "the body",
            Self::Whole => "the answer",
        })
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Headers => "headers",
            Self::Body => "bytes of the body",
        })
    }
}
