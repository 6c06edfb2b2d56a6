//! Sends one request to Azure: with a deadline, bounded per host, its span, and one typed error for all that can fail.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use moka::{policy::EvictionPolicy, sync::Cache};
use reqwest::{Client, RequestBuilder, Response, header::HeaderMap};
use tokio::sync::Semaphore;
use tracing::Instrument as _;
use url::Url;
use zeroize::Zeroizing;

use super::egress::{self, EgressError, ResolveError};
use crate::{config::EgressConfig, metrics::UpstreamMetrics};

/// Bound on one call, from the first byte out to the last byte in.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest wait for one of the places at a host. A host that hangs fills its places; the rest fails soon.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls in flight to one host (guarantee U4) ...
const PLACES_PER_HOST: usize = 32;
/// ... and to the metadata service, which allows 5 for the whole virtual machine (guarantee U3).
const PLACES_AT_IMDS: usize = 4;
/// Hosts whose places are remembered; an idle one has none taken and costs nothing to forget.
const HOSTS: u64 = 4096;
/// Token answers have a few KiB.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Which endpoint is called: what an answer means depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Endpoint {
    /// Entra's token endpoint.
    Entra,
    /// The instance metadata service.
    Imds,
    /// A registry's `/oauth2/exchange`.
    Exchange,
    /// A registry's `/oauth2/token`.
    Token,
}

/// The clients and their bounds.
pub(super) struct Upstream {
    azure: Client,
    imds: Client,
    pub(super) imds_endpoint: Url,
    places: Cache<String, Arc<Semaphore>>,
    metrics: UpstreamMetrics,
}

/// Why there is no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UpstreamError {
    /// An answer other than 2xx.
    #[error("answered with status {}", .0.status)]
    Refused(Refusal),
    /// The name does not exist.
    #[error("the name does not resolve")]
    NoSuchName,
    /// The name means an address that no token goes to.
    #[error("the name resolves to an address that is not allowed")]
    ForbiddenAddress,
    /// No connection, or one that is not trusted.
    #[error("no connection: {0}")]
    Connect(String),
    /// Nothing within the deadline.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// A 2xx answer that is not what the protocol says.
    #[error("the answer {0}")]
    Malformed(&'static str),
    /// Too many calls are waiting for this host already.
    #[error("too many calls to this host are in flight")]
    NoPlace,
}

/// What is kept of an answer other than 2xx. The body is not: it may say anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) status: u16,
    /// `error` (Entra, IMDS) or `errors[0].code` (registry): a word, never prose.
    pub(super) code: Option<String>,
    /// AADSTS number.
    pub(super) aadsts: Option<u32>,
    /// Whether IMDS said that the identity is not assigned.
    pub(super) is_identity_missing: bool,
    /// How long to wait.
    pub(super) retry_after: Option<Duration>,
    /// For Azure's support.
    pub(super) request_id: Option<String>,
}

impl UpstreamError {
    /// A fixed word for traces: causes may quote what a peer sent.
    fn kind(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::NoSuchName => "no_such_name",
            Self::ForbiddenAddress => "forbidden_address",
            Self::Connect(_) => "connect",
            Self::Timeout => "timeout",
            Self::Broken(_) => "broken",
            Self::Malformed(_) => "malformed",
            Self::NoPlace => "no_place",
        }
    }
}

impl Endpoint {
    /// Label in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::Imds => "imds",
            Self::Exchange => "acr_exchange",
            Self::Token => "acr_token",
        }
    }

    /// Span name: method and route.
    fn span_name(self) -> &'static str {
        match self {
            Self::Entra => "POST /{tenant}/oauth2/v2.0/token",
            Self::Imds => "GET /metadata/identity/oauth2/token",
            Self::Exchange => "POST /oauth2/exchange",
            Self::Token => "POST /oauth2/token",
        }
    }
}

impl Upstream {
    pub(super) fn new(
        egress: &EgressConfig,
        registry_suffixes: Vec<String>,
        metrics: UpstreamMetrics,
    ) -> Result<Self, EgressError> {
        Ok(Self {
            azure: egress::azure_client(egress, registry_suffixes)?,
            imds: egress::imds_client()?,
            imds_endpoint: egress.imds_endpoint.clone(),
            // The default policy may refuse a new key, and a bound that is not kept is none.
            places: Cache::builder()
                .max_capacity(HOSTS)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            metrics,
        })
    }

    /// The client to build a request for `endpoint` with.
    pub(super) fn client(&self, endpoint: Endpoint) -> &Client {
        match endpoint {
            Endpoint::Imds => &self.imds,
            Endpoint::Entra | Endpoint::Exchange | Endpoint::Token => &self.azure,
        }
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// Everything but a 2xx answer of bounded size.
    pub(super) async fn send(
        &self,
        endpoint: Endpoint,
        host: &str,
        request: RequestBuilder,
    ) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
        let span = tracing::info_span!(
            "azure",
            otel.name = endpoint.span_name(),
            otel.kind = "client",
            server.address = host,
            http.response.status_code = tracing::field::Empty,
            azure.request_id = tracing::field::Empty,
            error.r#type = tracing::field::Empty,
        );
        let result = self
            .send_bounded(endpoint, host, request)
            .instrument(span.clone())
            .await;
        let status = match &result {
            Ok(_body) => Some(200),
            Err(UpstreamError::Refused(refusal)) => {
                if let Some(id) = &refusal.request_id {
                    span.record("azure.request_id", id.as_str());
                }
                Some(refusal.status)
            }
            Err(error) => {
                span.record("error.type", error.kind());
                None
            }
        };
        if let Some(status) = status {
            span.record("http.response.status_code", status);
        }
        self.metrics.count(endpoint.as_str(), status);
        result
    }

    async fn send_bounded(
        &self,
        endpoint: Endpoint,
        host: &str,
        request: RequestBuilder,
    ) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
        let places = match endpoint {
            Endpoint::Imds => PLACES_AT_IMDS,
            Endpoint::Entra | Endpoint::Exchange | Endpoint::Token => PLACES_PER_HOST,
        };
        let host_places = self
            .places
            .get_with_by_ref(host, || Arc::new(Semaphore::new(places)));
        let Ok(Ok(_place)) = tokio::time::timeout(PLACE_TIMEOUT, host_places.acquire_owned()).await else {
            return Err(UpstreamError::NoPlace);
        };
        tokio::time::timeout(CALL_TIMEOUT, exchange(endpoint, request))
            .await
            .unwrap_or(Err(UpstreamError::Timeout))
    }
}

async fn exchange(endpoint: Endpoint, request: RequestBuilder) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
    let response = request.send().await.map_err(|error| failed_to_send(&error))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = read_bounded(response).await;
    if status.is_success() {
        return body;
    }
    // The status counts even where the body is broken off or far too long.
    let body = body.unwrap_or_default();
    Err(UpstreamError::Refused(super::classify::refusal(
        endpoint,
        status.as_u16(),
        &headers,
        &body,
    )))
}

async fn read_bounded(mut response: Response) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| UpstreamError::Broken(innermost(&error)))?
    {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(UpstreamError::Malformed("is larger than 64 KiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn failed_to_send(error: &reqwest::Error) -> UpstreamError {
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = source {
        match cause.downcast_ref::<ResolveError>() {
            Some(ResolveError::NoSuchName) => return UpstreamError::NoSuchName,
            Some(ResolveError::Lookup(error)) => return UpstreamError::Connect(error.to_string()),
            Some(ResolveError::Forbidden) => return UpstreamError::ForbiddenAddress,
            None => source = cause.source(),
        }
    }
    if error.is_timeout() {
        UpstreamError::Timeout
    } else if error.is_connect() {
        UpstreamError::Connect(innermost(error))
    } else {
        UpstreamError::Broken(innermost(error))
    }
}

/// The root cause. The outer layers of an HTTP error print the URL, which for the metadata service names identities.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// `x-ms-request-id` (Entra, IMDS) or `x-ms-correlation-request-id` (registry), if it looks like an id.
pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    ["x-ms-request-id", "x-ms-correlation-request-id"]
        .into_iter()
        .find_map(|name| {
            let value = headers.get(name)?.to_str().ok()?;
            let is_id =
                value.len() <= 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
            is_id.then(|| value.to_owned())
        })
}
