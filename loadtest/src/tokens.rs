//! Tokens of `ServiceAccount`s from the API server, many over one client.

use anyhow::Context as _;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;

/// Requests a token of an account for Entra.
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
