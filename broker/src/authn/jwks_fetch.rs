//! One fetch of the keys of a cluster from their URL.

use std::{path::Path, time::Duration};

use reqwest::{Certificate, Client, header, redirect};
use runtime::Secret;

use super::{KeySet, KeySetError, keys::MAX_JWKS_BYTES};
use crate::config::JwksUrl;

/// Bound on one fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("cannot read {path}")]
    File {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot use the CA bundle")]
    CaBundle(#[source] reqwest::Error),
    #[error("the CA bundle holds no certificate in PEM form")]
    NoAuthority,
    #[error("no answer")]
    Request(#[source] reqwest::Error),
    #[error("answered with status {0}")]
    Status(u16),
    #[error("the answer is larger than a key set can be")]
    TooLarge,
    #[error("the answer {0}")]
    Content(KeySetError),
}

impl FetchError {
    /// Whether the source has answered that there are no keys; all else is silence.
    pub(super) const fn is_withdrawal(&self) -> bool {
        matches!(self, Self::Content(KeySetError::Empty))
    }

    /// For operators, who see it in FleetService; the contract lists the words.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::File { .. } => "unreadable_file",
            Self::CaBundle(_) | Self::NoAuthority => "unusable_ca_bundle",
            Self::Request(_) => "no_answer",
            Self::Status(_) => "http_status",
            Self::TooLarge => "too_large",
            Self::Content(_) => "no_key_set",
        }
    }
}

/// Fetches the keys.
///
/// # Errors
/// No answer within 10 s, or none with keys in it.
pub(super) async fn fetch(source: &JwksUrl) -> Result<KeySet, FetchError> {
    // Built anew each time, because the CA bundle may have been rotated; that is once in five minutes.
    let mut client = Client::builder()
        .timeout(FETCH_TIMEOUT)
        .redirect(redirect::Policy::none())
        .https_only(true);
    if let Some(bundle) = &source.ca_bundle {
        let pem = read(&bundle.path).await?;
        let roots = Certificate::from_pem_bundle(&pem).map_err(FetchError::CaBundle)?;
        if roots.is_empty() {
            return Err(FetchError::NoAuthority);
        }
        // As in a kubeconfig: where an authority is named, no other one vouches for who these keys are of.
        client = client.tls_certs_only(roots);
    }
    // An API server refuses `application/json` for this path with 406.
    let mut request = client
        .build()
        .map_err(FetchError::CaBundle)?
        .get(source.url.clone())
        .header(header::ACCEPT, "application/jwk-set+json, */*;q=0.5");
    if let Some(path) = &source.token_file {
        let token = Secret::from(String::from_utf8_lossy(&read(path).await?).trim().to_owned());
        request = request.bearer_auth(token.expose());
    }
    let mut response = request.send().await.map_err(FetchError::Request)?;
    if !response.status().is_success() {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(FetchError::Request)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_JWKS_BYTES {
            return Err(FetchError::TooLarge);
        }
    }
    KeySet::parse(&body).map_err(FetchError::Content)
}

async fn read(path: &Path) -> Result<Vec<u8>, FetchError> {
    tokio::fs::read(path).await.map_err(|source| FetchError::File {
        path: path.display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests;
