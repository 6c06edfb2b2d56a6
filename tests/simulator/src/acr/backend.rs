//! The real registry behind a simulated one: requests are passed on as they are, bodies as streams.

use http::{HeaderValue, Request, Response, Uri, Version, header, uri};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::serve::{AnswerBody, BodyError, RequestBody};

/// Concern one connection only, and must not be passed on (RFC 9110, 7.6.1).
const HOP_BY_HOP: [header::HeaderName; 5] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Connections to real registries.
pub(crate) struct Backend(Client<HttpConnector, RequestBody>);

/// A real registry did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    /// The address in the state is none.
    #[error("backend {0:?} is not an address")]
    Address(String),
    /// Nothing answers there.
    #[error("backend {address} does not answer")]
    Unreachable {
        /// Its address.
        address: String,
        /// Why.
        #[source]
        source: hyper_util::client::legacy::Error,
    },
}

impl Backend {
    /// Without a connection yet.
    pub(crate) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build(HttpConnector::new()))
    }

    /// Passes a request on. The registry builds absolute addresses from `Host` and `X-Forwarded-Proto`, so it
    /// must see the host and port that the client used, and that the client used https.
    pub(crate) async fn pass_on(
        &self,
        request: Request<RequestBody>,
        address: &str,
        authority: &str,
    ) -> Result<Response<AnswerBody>, BackendError> {
        let bad_address = || BackendError::Address(address.to_owned());
        let (mut head, body) = request.into_parts();
        let mut target = address
            .parse::<Uri>()
            .map_err(|_invalid| bad_address())?
            .into_parts();
        target.path_and_query = head.uri.path_and_query().cloned();
        target.scheme.get_or_insert(uri::Scheme::HTTP);
        head.uri = Uri::from_parts(target).map_err(|_invalid| bad_address())?;
        head.version = Version::HTTP_11;
        for name in HOP_BY_HOP {
            head.headers.remove(name);
        }
        let host = HeaderValue::from_str(authority).map_err(|_invalid| bad_address())?;
        head.headers.insert(header::HOST, host);
        head.headers
            .insert("x-forwarded-proto", HeaderValue::from_static("https"));
        let unreachable = |source| BackendError::Unreachable {
            address: address.to_owned(),
            source,
        };
        let answer = self
            .0
            .request(Request::from_parts(head, body))
            .await
            .map_err(unreachable)?;
        let (mut head, body) = answer.into_parts();
        for name in HOP_BY_HOP {
            head.headers.remove(name);
        }
        head.version = Version::default();
        Ok(Response::from_parts(
            head,
            body.map_err(BodyError::from).boxed_unsync(),
        ))
    }
}
