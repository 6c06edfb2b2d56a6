//! What is asked of an API server besides its objects: readiness, issuer, keys, tokens.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::header::ACCEPT;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};

/// No answer of these takes long, and a server that is starting may accept and not answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the API server says that it is ready.
pub(super) async fn is_ready(client: &Client) -> bool {
    get(client, "/readyz").await.is_ok()
}

/// The issuer of the cluster's `ServiceAccount` tokens.
pub(super) async fn issuer(client: &Client) -> anyhow::Result<String> {
    let text = get(client, "/.well-known/openid-configuration").await?;
    let document: serde_json::Value =
        serde_json::from_str(&text).context("the OpenID configuration is not JSON")?;
    let issuer = document.get("issuer").and_then(serde_json::Value::as_str);
    issuer
        .map(str::to_owned)
        .context("the OpenID configuration has no issuer")
}

/// The keys that the cluster's tokens are verified with, as JSON.
pub(super) async fn jwks(client: &Client) -> anyhow::Result<String> {
    let text = get(client, "/openid/v1/jwks").await?;
    let document: serde_json::Value = serde_json::from_str(&text).context("the JWKS is not JSON")?;
    let keys = document.get("keys").and_then(serde_json::Value::as_array);
    ensure!(
        keys.is_some_and(|keys| !keys.is_empty()),
        "the cluster publishes no ServiceAccount keys"
    );
    Ok(text)
}

/// A token of a `ServiceAccount`. No audiences: the API server's own.
pub(super) async fn service_account_token(
    client: Client,
    namespace: &str,
    name: &str,
    audiences: &[&str],
    lifetime: Duration,
) -> anyhow::Result<String> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: audiences.iter().map(|&audience| audience.to_owned()).collect(),
            expiration_seconds: Some(i64::try_from(lifetime.as_secs()).context("the lifetime is too long")?),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
    let answer = tokio::time::timeout(
        REQUEST_TIMEOUT,
        accounts.create_token_request(name, &PostParams::default(), &request),
    )
    .await
    .context("the API server did not answer a token request")?
    .with_context(|| format!("failed to request a token for ServiceAccount {namespace}/{name}"))?;
    Ok(answer
        .status
        .context("the API server answered a token request without a token")?
        .token)
}

async fn get(client: &Client, path: &str) -> anyhow::Result<String> {
    // The discovery endpoints answer 406 to a client that insists on application/json.
    let request = http::Request::get(path)
        .header(ACCEPT, "*/*")
        .body(Vec::new())
        .context("a bad path")?;
    tokio::time::timeout(REQUEST_TIMEOUT, client.request_text(request))
        .await
        .with_context(|| format!("the API server did not answer GET {path}"))?
        .with_context(|| format!("failed to GET {path}"))
}
