//! The transport of production: the only place that sends bytes to Azure. Bounded at every stage, in time and in size.
//!
//! Sends nothing to a registry outside of the fence, follows no redirect, sends nothing twice, and unpacks no compressed
//! body: that one is just not what was asked for.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, uri::Scheme};
use proto::types::RegistryHost;
use reqwest::Client;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{
    egress::{self, EgressError, NameService, SystemNames},
    transport::{Answer, Endpoint, Part, Stage, Transport, TransportError},
    transport_failure::failure,
};
use crate::config::{EgressConfig, RegistryFence};

/// From the call to the head of the answer. Contains the connection, which has a shorter bound of its own.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// From there to the last byte. With the above, 15 s for the whole exchange.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Headers of an answer; Entra's have about 4 KiB.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Token answers have a few KiB.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Over the clients of [`egress`].
pub(super) struct HttpTransport {
    azure: Client,
    imds: Client,
    /// The registries of the configuration that the clients were built from.
    registries: RegistryFence,
}

impl HttpTransport {
    pub(super) fn new(egress: &EgressConfig, registries: RegistryFence) -> Result<Self, EgressError> {
        Self::with_names(egress, registries, Arc::new(SystemNames))
    }

    fn with_names(
        egress: &EgressConfig,
        registries: RegistryFence,
        names: Arc<dyn NameService>,
    ) -> Result<Self, EgressError> {
        Ok(Self {
            azure: egress::azure_client(egress, registries.clone(), names)?,
            imds: egress::imds_client()?,
            registries,
        })
    }

    /// The last look before a token leaves. The policy has decided long before; this holds whatever happened in between.
    fn may_leave(&self, endpoint: Endpoint, uri: &Uri) -> bool {
        match endpoint {
            Endpoint::Exchange | Endpoint::Token => is_registry(uri, &self.registries),
            // Both are addresses of the configuration, and no part of them is a caller's.
            Endpoint::Entra | Endpoint::Imds => true,
        }
    }

    fn client(&self, endpoint: Endpoint) -> &Client {
        match endpoint {
            Endpoint::Imds => &self.imds,
            Endpoint::Entra | Endpoint::Exchange | Endpoint::Token => &self.azure,
        }
    }
}

#[async_trait::async_trait]
impl Transport for HttpTransport {
    async fn exchange(&self, endpoint: Endpoint, request: Request<Bytes>) -> Result<Answer, TransportError> {
        if !self.may_leave(endpoint, request.uri()) {
            return Err(TransportError::ForbiddenHost);
        }
        let request = request
            .try_into()
            .map_err(|_invalid: reqwest::Error| TransportError::Request)?;
        let mut response = timeout(HEADERS_TIMEOUT, self.client(endpoint).execute(request))
            .await
            .map_err(|_elapsed| TransportError::Timeout(Stage::Headers))?
            .map_err(|error| failure(&error))?;
        check_headers(response.headers())?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let body = timeout(BODY_TIMEOUT, read_bounded(&mut response))
            .await
            .unwrap_or(Err(TransportError::Timeout(Stage::Body)));
        let body = match body {
            Ok(body) => body,
            Err(error) if status.is_success() => return Err(error),
            // The status counts even where the body is broken off or far too long.
            Err(_error) => Zeroizing::default(),
        };
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

/// `https://` and nothing but the canonical name of a registry inside of the fence: no port, no user name.
fn is_registry(uri: &Uri, registries: &RegistryFence) -> bool {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    uri.scheme() == Some(&Scheme::HTTPS)
        && authority
            .parse::<RegistryHost>()
            .is_ok_and(|host| host.as_str() == authority && registries.allows(&host))
}

/// The HTTP client bounds them by their number, and generously.
fn check_headers(headers: &HeaderMap) -> Result<(), TransportError> {
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > MAX_HEADER_BYTES {
        return Err(TransportError::Oversized(Part::Headers));
    }
    Ok(())
}

async fn read_bounded(response: &mut reqwest::Response) -> Result<Zeroizing<Vec<u8>>, TransportError> {
    let announced = response
        .content_length()
        .and_then(|bytes| usize::try_from(bytes).ok());
    // Never grows: that would leave what it holds behind in memory that nobody wipes.
    let mut body = Zeroizing::new(Vec::with_capacity(
        announced.unwrap_or(MAX_BODY_BYTES).min(MAX_BODY_BYTES),
    ));
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(TransportError::Oversized(Part::Body));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
