//! How Entra gets the keys of clusters: published by the simulator itself, given in the state, or fetched
//! from a running cluster and remembered for a while.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::{IssuerKeys, State, entra::FetchedKeys, jwt::JwkSet, keys::Keys};

/// Fetched keys are remembered for so long. A cluster's keys may change under us, as in a test of rotation.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(60);

/// A cluster that does not answer in this time is not reachable.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// A larger key document is no key document.
const LARGEST_DOCUMENT_BYTES: usize = 1 << 20;

/// Documents that were fetched.
#[derive(Default)]
pub(crate) struct IssuerDocuments(Mutex<HashMap<String, (Timestamp, JwkSet)>>);

impl IssuerDocuments {
    /// The keys of an issuer, or why they cannot be had.
    pub(crate) async fn keys_of(
        &self,
        issuer: Option<&str>,
        state: &State,
        keys: &Keys,
        real: Timestamp,
    ) -> FetchedKeys {
        let name = issuer.unwrap_or_default();
        // Entra's own tokens, shown to itself.
        if state.is_entra_issuer(name) {
            return Ok(keys.entra_jwks());
        }
        let issuer = state.issuers.iter().find(|issuer| issuer.url == name);
        let issuer = issuer.ok_or_else(|| format!("nothing answers at issuer {name:?}"))?;
        if !issuer.reachable {
            return Err(format!("issuer {name:?} is set to be unreachable"));
        }
        match &issuer.keys {
            IssuerKeys::Simulated { kids } => keys.issuer_jwks(name, kids).map_err(|error| error.to_string()),
            IssuerKeys::Inline(document) => {
                serde_json::from_value(document.clone()).map_err(|error| format!("its JWKS is none: {error}"))
            }
            IssuerKeys::Url {
                url,
                ca_pem,
                bearer_token,
            } => {
                self.fetched(url, ca_pem.as_deref(), bearer_token.as_deref(), real)
                    .await
            }
        }
    }

    /// Forgets what was fetched.
    pub(crate) fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn fetched(
        &self,
        url: &str,
        ca_pem: Option<&str>,
        bearer_token: Option<&str>,
        real: Timestamp,
    ) -> FetchedKeys {
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(url)
            .cloned();
        if let Some((at, document)) = known
            && real.duration_since(at) < REMEMBERED
        {
            return Ok(document);
        }
        let document = fetch(url, ca_pem, bearer_token)
            .await
            .map_err(|error| format!("failed to fetch {url}: {}", chain(error.as_ref())))?;
        let entry = (real, document.clone());
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(url.to_owned(), entry);
        Ok(document)
    }
}

async fn fetch(
    url: &str,
    ca_pem: Option<&str>,
    bearer_token: Option<&str>,
) -> Result<JwkSet, Box<dyn Error + Send + Sync>> {
    let mut client = reqwest::Client::builder()
        .timeout(FETCH_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    if let Some(pem) = ca_pem {
        client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem.as_bytes())?);
    }
    let mut request = client.build()?.get(url);
    if let Some(token) = bearer_token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await?.error_for_status()?.bytes().await?;
    if answer.len() > LARGEST_DOCUMENT_BYTES {
        return Err("the document is too large".into());
    }
    Ok(serde_json::from_slice(&answer)?)
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
