//! The transport of production: the only place that sends bytes to Azure. Bounded at every stage, in time and in size.
//!
//! Follows no redirect, sends nothing twice, and unpacks no compressed body: that one is just not what was asked for.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use reqwest::Client;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{
    egress::{self, EgressError},
    transport::{Answer, Endpoint, Part, Stage, Transport, TransportError},
    transport_failure::failure,
};
use crate::config::EgressConfig;

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
}

impl HttpTransport {
    pub(super) fn new(egress: &EgressConfig, registry_suffixes: Vec<String>) -> Result<Self, EgressError> {
        Ok(Self {
            azure: egress::azure_client(egress, registry_suffixes)?,
            imds: egress::imds_client()?,
        })
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
    let mut body = Zeroizing::new(Vec::new());
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
