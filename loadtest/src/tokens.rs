//! Tokens of `ServiceAccount`s from the API server.

use std::time::Duration;

use anyhow::Context as _;
use e2e::Stack;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;

/// Life of every token of a benchmark, in seconds: longer than any run.
pub(crate) const TOKEN_SECONDS: u32 = 3_600;

/// A new token with which the syncer proves itself to the broker.
///
/// # Errors
/// The API server grants none.
pub(crate) async fn caller_token(stack: &Stack) -> anyhow::Result<String> {
    let lifetime = Duration::from_secs(TOKEN_SECONDS.into());
    stack
        .mint_token(e2e::NAMESPACE, "acrpull-syncer", e2e::BROKER_AUDIENCE, lifetime)
        .await
        .context("the caller's token")
}

/// Requests a token of an account for Entra; many over one client.
///
/// # Errors
/// There is no such account, or `seconds` is under 600.
pub(crate) async fn federation_token(
    accounts: &Api<ServiceAccount>,
    account: &str,
    seconds: i64,
) -> anyhow::Result<String> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![e2e::FEDERATION_AUDIENCE.to_owned()],
            expiration_seconds: Some(seconds),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    let granted = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .with_context(|| format!("failed to request a token of ServiceAccount {account}"))?;
    Ok(granted
        .status
        .context("the API server granted a token without a token")?
        .token)
}
