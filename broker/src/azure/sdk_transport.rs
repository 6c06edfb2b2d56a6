//! The HTTP client under `azure_identity`: ours, so that our deadlines, bounds and errors hold.
//!
//! The SDK would retry on its own schedule (up to 100 s for managed identity), lose status and headers of most error
//! answers, and take `{}` for a token. So this transport hands it nothing but well-formed success: every other answer
//! becomes an error of a kind that the SDK does not retry, and is kept here for whoever made the call.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use azure_core::{
    Error as SdkError,
    error::ErrorKind,
    http::{
        AsyncRawResponse, Body, ClientOptions, HttpClient, Request, RetryOptions, StatusCode, Transport,
        headers::Headers,
    },
};
use bytes::Bytes;
use runtime::{Secret, never_shown};
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use super::{
    Attempt,
    gate::PauseScope,
    token_text,
    transport::Endpoint,
    upstream::{Call, Explain, Upstream, UpstreamError},
};
use crate::error::CredentialError;

/// Tokens live 10 minutes to 28 hours; anything longer than this is a mistake (guarantee E3 sets 24 h for a registry's).
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 3600);

/// More than the SDK's form of an answer has around the token.
const AROUND_TOKEN: usize = 128;

/// Carries the one request of one credential object, which lives for one fetch.
pub(super) struct SdkTransport {
    upstream: Arc<Upstream>,
    endpoint: Endpoint,
    scope: PauseScope,
    attempt: Attempt,
    explain: Box<Explain>,
    observed: Mutex<Option<Result<Duration, CredentialError>>>,
}

/// The parts of a token answer that are used. Numbers come as numbers from Entra and as strings from IMDS.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Secret,
    token_type: String,
    expires_in: NumberOrText,
}

never_shown!(TokenAnswer);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

/// The one form that the SDK reads, of each endpoint.
#[derive(Serialize)]
#[serde(untagged)]
enum SdkAnswer<'a> {
    Imds {
        access_token: &'a str,
        expires_on: &'static str,
        token_type: &'static str,
        resource: &'static str,
    },
    Entra {
        access_token: &'a str,
        expires_in: u64,
        ext_expires_in: u64,
        token_type: &'static str,
    },
}

impl SdkTransport {
    pub(super) fn new(
        upstream: Arc<Upstream>,
        endpoint: Endpoint,
        scope: PauseScope,
        attempt: Attempt,
        explain: Box<Explain>,
    ) -> Arc<Self> {
        Arc::new(Self {
            upstream,
            endpoint,
            scope,
            attempt,
            explain,
            observed: Mutex::default(),
        })
    }

    /// Options that put a credential on top of this transport.
    pub(super) fn client_options(self: &Arc<Self>) -> ClientOptions {
        ClientOptions {
            transport: Some(Transport::new(Arc::clone(self) as Arc<dyn HttpClient>)),
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        }
    }

    /// What the wire said: the token's lifetime, or why there is none. An SDK that never called is a refusal of its own.
    pub(super) fn observed(&self) -> Result<Duration, CredentialError> {
        let observed = self
            .observed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        observed.unwrap_or_else(|| {
            Err((self.explain)(&UpstreamError::Malformed(
                "was not asked for: the request could not be built",
            )))
        })
    }

    async fn fetch(&self, request: &Request) -> Result<(Zeroizing<Vec<u8>>, Duration), CredentialError> {
        let (url, request) = self.outgoing(request).map_err(|error| (self.explain)(&error))?;
        let call = Call {
            endpoint: self.endpoint,
            host: url.authority(),
            scope: self.scope.clone(),
            attempt: &self.attempt,
            request,
            explain: &*self.explain,
        };
        self.upstream
            .send(call, |received| normalized(self.endpoint, &received.body))
            .await
    }

    /// The SDK's request, as it is sent, and where to.
    fn outgoing(&self, request: &Request) -> Result<(Url, http::Request<Bytes>), UpstreamError> {
        let url = match self.endpoint {
            Endpoint::Imds => rebased(request.url(), &self.upstream.imds_endpoint).ok_or(
                UpstreamError::Malformed("was not asked for: egress.imdsEndpoint cannot be used"),
            )?,
            Endpoint::Entra | Endpoint::Exchange | Endpoint::Token => request.url().clone(),
        };
        let mut outgoing = http::Request::builder()
            .method(request.method().as_str())
            .uri(url.as_str());
        for (name, value) in request.headers().iter() {
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
        let body = match request.body() {
            Body::Bytes(bytes) => bytes.clone(),
            Body::SeekableStream(_) => Bytes::new(),
        };
        let request = outgoing
            .body(body)
            .map_err(|_error| UpstreamError::Malformed("was not asked for: the request is no HTTP"))?;
        Ok((url, request))
    }
}

/// The SDK knows one address. Scheme, host and port are the operator's; path and query are the SDK's.
fn rebased(url: &Url, base: &Url) -> Option<Url> {
    let mut url = url.clone();
    url.set_scheme(base.scheme()).ok()?;
    url.set_host(base.host_str()).ok()?;
    url.set_port(base.port()).ok()?;
    Some(url)
}

/// Checks a success answer and writes it again in the one form that the SDK reads. What the SDK makes of it is its own.
fn normalized(endpoint: Endpoint, body: &[u8]) -> Result<(Zeroizing<Vec<u8>>, Duration), UpstreamError> {
    let answer: TokenAnswer =
        serde_json::from_slice(body).map_err(|_error| UpstreamError::Malformed("is not a token answer"))?;
    token_text::check(&answer.access_token).map_err(UpstreamError::Malformed)?;
    if !answer.token_type.eq_ignore_ascii_case("bearer") {
        return Err(UpstreamError::Malformed("holds no bearer token"));
    }
    let seconds = match answer.expires_in {
        NumberOrText::Number(seconds) => Some(seconds),
        NumberOrText::Text(text) => text.parse().ok(),
    };
    let lifetime = seconds
        .map(Duration::from_secs)
        .filter(|lifetime| !lifetime.is_zero() && *lifetime <= MAX_LIFETIME)
        .ok_or(UpstreamError::Malformed("has no believable lifetime"))?;
    let access_token = answer.access_token.expose();
    let rewritten = match endpoint {
        // Far in the future: the SDK's own expiry is never consulted, ours comes from `expires_in` and our clock.
        Endpoint::Imds => SdkAnswer::Imds {
            access_token,
            expires_on: "4102444800",
            token_type: "Bearer",
            resource: "",
        },
        Endpoint::Entra | Endpoint::Exchange | Endpoint::Token => SdkAnswer::Entra {
            access_token,
            expires_in: lifetime.as_secs(),
            ext_expires_in: 0,
            token_type: "Bearer",
        },
    };
    // As large as it can get: it never moves, so that there is one copy to wipe.
    let mut written = Zeroizing::new(Vec::with_capacity(access_token.len() + AROUND_TOKEN));
    serde_json::to_writer(&mut *written, &rewritten)
        .map_err(|_error| UpstreamError::Malformed("cannot be written again"))?;
    Ok((written, lifetime))
}

#[async_trait::async_trait]
impl HttpClient for SdkTransport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let fetched = self.fetch(request).await;
        let (observed, response) = match fetched {
            Ok((body, lifetime)) => (
                Ok(lifetime),
                Ok(AsyncRawResponse::from_bytes(
                    StatusCode::Ok,
                    Headers::new(),
                    Bytes::from_owner(body),
                )),
            ),
            // `Other` is a kind that the SDK's retry policy leaves alone.
            Err(error) => (
                Err(error.clone()),
                Err(SdkError::with_error(
                    ErrorKind::Other,
                    error,
                    "the transport has the reason",
                )),
            ),
        };
        *self.observed.lock().unwrap_or_else(PoisonError::into_inner) = Some(observed);
        response
    }
}

impl fmt::Debug for SdkTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SdkTransport")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sdk_transport_reads_both_forms_of_a_lifetime() {
        for body in [
            r#"{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"t"}"#,
            r#"{"access_token":"t","expires_in":"3599","expires_on":"1","resource":"r","token_type":"bearer"}"#,
        ] {
            let (_, lifetime) = normalized(Endpoint::Entra, body.as_bytes()).unwrap();
            assert_eq!(lifetime, Duration::from_secs(3599));
        }
    }

    #[test]
    fn l2_answer_for_the_sdk_is_written_into_memory_that_never_moves() {
        let token = "t".repeat(5_000);
        let seconds = MAX_LIFETIME.as_secs();
        let body = format!(r#"{{"token_type":"Bearer","expires_in":{seconds},"access_token":"{token}"}}"#);
        for endpoint in [Endpoint::Imds, Endpoint::Entra] {
            let (written, _lifetime) = normalized(endpoint, body.as_bytes()).unwrap();
            assert_eq!(written.capacity(), token.len() + AROUND_TOKEN);
            let read: serde_json::Value = serde_json::from_slice(&written).unwrap();
            assert_eq!(read["access_token"], *token);
        }
    }

    #[test]
    fn sdk_transport_asks_where_the_operator_says() {
        let asked = Url::parse("http://169.254.169.254/metadata/identity/oauth2/token?resource=r").unwrap();
        for (base, expected) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://imds.example", "https://imds.example"),
            ("https://imds.example:80/ignored", "https://imds.example:80"),
            ("http://169.254.169.254", "http://169.254.169.254"),
        ] {
            let url = rebased(&asked, &Url::parse(base).unwrap()).unwrap();
            assert_eq!(
                url.as_str(),
                format!("{expected}/metadata/identity/oauth2/token?resource=r")
            );
        }
    }

    #[test]
    fn sdk_transport_refuses_what_is_no_token() {
        for body in [
            "{}",
            "",
            "<html>",
            r#"{"token_type":"Bearer","expires_in":3599,"access_token":""}"#,
            r#"{"token_type":"Bearer","expires_in":3599,"access_token":"t\"}"}"#,
            r#"{"token_type":"pop","expires_in":3599,"access_token":"t"}"#,
            r#"{"token_type":"Bearer","expires_in":0,"access_token":"t"}"#,
            r#"{"token_type":"Bearer","expires_in":-5,"access_token":"t"}"#,
            r#"{"token_type":"Bearer","expires_in":999999999,"access_token":"t"}"#,
        ] {
            assert!(
                matches!(
                    normalized(Endpoint::Entra, body.as_bytes()),
                    Err(UpstreamError::Malformed(_))
                ),
                "{body}"
            );
        }
    }
}
