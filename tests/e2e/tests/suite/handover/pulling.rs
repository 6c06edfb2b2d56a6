//! A node that pulls all the time, with what the ServiceAccounts list.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use e2e::{PullSecret, Stack};
use k8s_openapi::api::core::v1::Secret;

use super::peer::Bound;

/// What the loop has seen.
#[derive(Default)]
pub(super) struct Pulled {
    /// Pulls.
    pub(super) count: usize,
    /// The payloads of each Secret.
    pub(super) payloads: BTreeMap<String, BTreeSet<String>>,
}

/// Pulls for every binding in turn while `meanwhile` goes on, and once more after it. One failure is the end.
pub(super) async fn throughout(
    stack: &Stack,
    bound: &[Bound<'_>],
    meanwhile: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Pulled> {
    let mut pulled = Pulled::default();
    let mut meanwhile = std::pin::pin!(meanwhile);
    let mut is_over = false;
    loop {
        for one in bound {
            let pull = pull(stack, one);
            let mut pull = std::pin::pin!(pull);
            let docker_config = loop {
                tokio::select! {
                    docker_config = &mut pull => break docker_config,
                    ended = &mut meanwhile, if !is_over => {
                        ended?;
                        is_over = true;
                    }
                }
            };
            let docker_config = docker_config.with_context(|| {
                format!(
                    "a Pod of {} could not pull, after {} pulls",
                    one.name, pulled.count
                )
            })?;
            pulled.count += 1;
            pulled
                .payloads
                .entry(one.secret_name())
                .or_default()
                .insert(docker_config);
        }
        if is_over {
            return Ok(pulled);
        }
        tokio::task::yield_now().await;
    }
}

/// As a kubelet does it: the Secrets that the ServiceAccount lists, in their order, those that do not exist left out.
async fn pull(stack: &Stack, bound: &Bound<'_>) -> anyhow::Result<String> {
    let secrets = bound.team.api::<Secret>();
    let listed = bound.team.links(bound.account).await?;
    for name in &listed {
        let Some(secret) = secrets.get_opt(name).await? else {
            continue;
        };
        let secret = PullSecret::read(secret)?;
        if secret.login(&bound.registry).is_err() {
            continue;
        }
        let reference = format!("{}/team/web:v1", bound.registry);
        let pull = stack
            .images()
            .pull(stack.azure(), &reference, &secret.docker_config);
        tokio::time::timeout(Duration::from_secs(30), pull)
            .await
            .context("the pull hung")??;
        return Ok(secret.docker_config);
    }
    bail!("ServiceAccount {} lists {listed:?}", bound.account)
}
