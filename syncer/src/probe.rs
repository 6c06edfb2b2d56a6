//! A look at the API server before anything starts: a missing right is told at once and in one line, and so is a server
//! that is not there, after a while. Reads only, and only metadata: a binding that does not decode is no reason to end.

use std::{fmt::Debug, time::Duration};

use kube::{Api, Client, api::ListParams};
use runtime::{Failure, error_chain::ErrorChain};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::{
    args::LabelSelector,
    binding::ApiVersion,
    crd::{self, v1beta1},
    kube_calls::{KubeCalls, KubeError, Verb},
    namespaces::{Namespaces, Part},
};

/// For so long a server that is just starting, or has too much to do, is asked again. The chart's liveness probe is patient
/// for 30 s.
const PATIENCE: Duration = Duration::from_secs(25);
/// The first pause, and half as much again at most; each is twice the one before.
const FIRST: Duration = Duration::from_secs(1);

/// One call per API and namespace. A missing CRD is no reason to end: the watches wait for it. Neither is one of
/// several namespaces that may not be read, because it was deleted for example: its end must not be that of the others.
///
/// # Errors
/// The API server cannot be reached for a while, or nothing may be read.
pub(crate) async fn probe(
    client: &Client,
    calls: &KubeCalls,
    namespaces: &Namespaces,
    selector: &LabelSelector,
) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    let mut params = ListParams::default().limit(1);
    params.label_selector = selector.as_query().map(str::to_owned);
    let parts = namespaces.parts::<crd::AcrPullBinding>(client);
    probe_api(ApiVersion::V1Beta2, parts, calls, &params, until).await?;
    let parts = namespaces.parts::<v1beta1::AcrPullBinding>(client);
    probe_api(ApiVersion::V1Beta1, parts, calls, &params, until).await
}

async fn probe_api<K>(
    version: ApiVersion,
    parts: Vec<Part<K>>,
    calls: &KubeCalls,
    params: &ListParams,
    until: Instant,
) -> Result<(), Failure>
where
    K: Clone + DeserializeOwned + Debug,
{
    let (mut is_readable, mut refusal) = (false, None);
    for Part { namespace, api } in parts {
        match patiently(&api, calls, params, until).await {
            Ok(()) => is_readable = true,
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

/// Lists one, and tries again for a while where that may help.
async fn patiently<K>(
    api: &Api<K>,
    calls: &KubeCalls,
    params: &ListParams,
    until: Instant,
) -> Result<(), KubeError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut pause = FIRST;
    loop {
        let one = api.list_metadata(params);
        let Err(error) = calls.call(Verb::List, "acrpullbindings", one).await else {
            return Ok(());
        };
        let told = error.retry_after().unwrap_or_default();
        let wait = pause.max(told).mul_f64(1.0 + rand::random::<f64>() / 2.0);
        if !may_pass(&error) || Instant::now() + wait > until {
            return Err(error);
        }
        tracing::warn!(error = %ErrorChain(&error), "the API server is not ready, and is asked again");
        tokio::time::sleep(wait).await;
        pause *= 2;
    }
}

/// No answer, or one that means "later".
fn may_pass(error: &KubeError) -> bool {
    matches!(error.code(), 0 | 429 | 500..=599)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use prometheus_client::registry::Registry;
    use serde_json::json;

    use super::*;
    use crate::{
        metrics::Metrics,
        samples::api_server::{api_server, refused},
    };

    /// What comes of a probe whose first calls are refused with this code, how many calls it made, and for how long.
    async fn probed(refusals: usize, code: u16) -> (Result<(), Failure>, usize, Duration) {
        let made = AtomicUsize::new(0);
        let (client, calls) = api_server(move |_call| {
            if made.fetch_add(1, Ordering::Relaxed) < refusals {
                return refused(code, "no");
            }
            let list = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": "1"}, "items": [],
            });
            (200, list)
        });
        let kube_calls = KubeCalls::new(Metrics::register(&mut Registry::default()));
        let begun = Instant::now();
        let namespaces = std::iter::empty().collect();
        let probed = probe(&client, &kube_calls, &namespaces, &LabelSelector::default()).await;
        let made = calls.lock().unwrap().len();
        (probed, made, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn probe_of_a_server_that_is_not_ready_yet_is_made_again() {
        for code in [429, 500, 503, 504] {
            let (probed, made, took) = probed(3, code).await;
            assert!(probed.is_ok(), "{code}");
            assert_eq!(made, 5, "three in vain, and one for each API");
            assert!(took >= FIRST * 7, "the pauses grow: {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn probe_of_a_server_that_never_is_ready_ends() {
        let (probed, made, took) = probed(usize::MAX, 503).await;
        assert!(
            probed
                .unwrap_err()
                .to_string()
                .contains("cannot reach the API server")
        );
        assert!((4..=5).contains(&made), "{made}");
        assert!(took <= PATIENCE, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn probe_that_is_not_allowed_is_told_at_once() {
        for code in [400, 401, 403] {
            let (probed, made, took) = probed(usize::MAX, code).await;
            assert!(probed.is_err());
            assert_eq!((made, took), (1, Duration::ZERO), "{code}");
        }
    }
}
