//! A look at the API server before anything starts: a missing right or an unreachable server is told at once and in one
//! line. Reads only, and only metadata: a binding that does not decode is no reason to end.

use std::fmt::Debug;

use kube::{Client, api::ListParams};
use runtime::{Failure, error_chain::ErrorChain};
use serde::de::DeserializeOwned;

use crate::{
    args::LabelSelector,
    binding::ApiVersion,
    crd::{self, v1beta1},
    kube_calls::{KubeCalls, KubeError, Verb},
    namespaces::{Namespaces, Part},
};

/// One call per API and namespace. A missing CRD is no reason to end: the watches wait for it. Neither is one of
/// several namespaces that may not be read, because it was deleted for example: its end must not be that of the others.
///
/// # Errors
/// The API server cannot be reached, or nothing may be read.
pub(crate) async fn probe(
    client: &Client,
    calls: &KubeCalls,
    namespaces: &Namespaces,
    selector: &LabelSelector,
) -> Result<(), Failure> {
    let mut params = ListParams::default().limit(1);
    params.label_selector = selector.as_query().map(str::to_owned);
    let parts = namespaces.parts::<crd::AcrPullBinding>(client);
    probe_api(ApiVersion::V1Beta2, parts, calls, &params).await?;
    let parts = namespaces.parts::<v1beta1::AcrPullBinding>(client);
    probe_api(ApiVersion::V1Beta1, parts, calls, &params).await
}

async fn probe_api<K>(
    version: ApiVersion,
    parts: Vec<Part<K>>,
    calls: &KubeCalls,
    params: &ListParams,
) -> Result<(), Failure>
where
    K: Clone + DeserializeOwned + Debug,
{
    let (mut is_readable, mut refusal) = (false, None);
    for Part { namespace, api } in parts {
        let first = api.list_metadata(params);
        match calls.call(Verb::List, "acrpullbindings", first).await {
            Ok(_first) => is_readable = true,
            Err(error) if error.is_not_found() => is_readable = true,
            Err(error) if error.code() == 403 => {
                tracing::warn!(
                    api = version.as_str(),
                    namespace,
                    error = %ErrorChain(&error),
                    "the bindings may not be listed"
                );
                refusal = Some(error);
            }
            Err(error) => return Err(refused(version, error)),
        }
    }
    match refusal {
        Some(error) if !is_readable => Err(refused(version, error)),
        Some(_) | None => Ok(()),
    }
}

fn refused(version: ApiVersion, error: KubeError) -> Failure {
    let failure = match error.code() {
        400 => Failure::usage("the API server does not accept --label-selector")
            .remedy("write it as kubectl's -l"),
        401 | 403 => {
            let what = format!(
                "the API server does not let this process list acrpullbindings of {}",
                version.group()
            );
            Failure::runtime(what)
                .remedy("bind the syncer's role to its ServiceAccount, or name with --namespace where it may")
        }
        _ => Failure::runtime("cannot reach the API server").remedy("check KUBECONFIG and the network"),
    };
    failure.source(error)
}
