//! Mints the token of a ServiceAccount with which it proves itself to Entra ID.

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, ResourceExt as _, api::PostParams};
use proto::Reason;
use runtime::Secret;
use tracing::Instrument as _;

use crate::{binding::Binding, context::Context, kube_calls::Verb, problem::Problem};

/// Life of a minted token, in seconds: the least that Kubernetes grants, and all that one question needs.
const TOKEN_SECONDS: i64 = 600;

/// A token of the ServiceAccount for the federation audience.
///
/// # Errors
/// There is no such ServiceAccount, or Kubernetes refused or failed.
pub(super) async fn mint(
    context: &Context,
    binding: &Binding,
    service_account: &str,
) -> Result<Secret, Problem> {
    let _worker = context.limits.worker().await;
    let api: Api<ServiceAccount> =
        Api::namespaced(context.client.clone(), &binding.namespace().unwrap_or_default());
    let wanted = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![context.token_audience.clone()],
            expiration_seconds: Some(TOKEN_SECONDS),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    let params = PostParams::default();
    let span = tracing::info_span!(
        "POST serviceaccounts/{name}/token",
        otel.kind = "client",
        serviceaccount.name = service_account
    );
    let call = api.create_token_request(service_account, &params, &wanted);
    let minted = context
        .calls
        .call(Verb::Create, "serviceaccounts/token", call)
        .instrument(span)
        .await;
    let minted = minted.map_err(|error| {
        if error.is_not_found() {
            Problem::new(
                Reason::ServiceAccountNotFound,
                format!(
                    "ServiceAccount {service_account} of {} does not exist",
                    binding.account_ref.field()
                ),
            )
        } else {
            error.into_problem(&format!("request a token of ServiceAccount {service_account}"))
        }
    })?;
    Ok(Secret::from(
        minted.status.map(|status| status.token).unwrap_or_default(),
    ))
}
