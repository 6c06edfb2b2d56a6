//! Step 5: the ServiceAccount.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, ResourceExt as _};

use super::Walk;
use crate::scene::{BINDING, NAMESPACE};

/// Where the syncer records the links that it made.
const RECORD: &str = "acrpull.microsoft.com/linked-secrets";

pub(super) async fn show(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    walk.screen.step(
        "The ServiceAccount",
        "Every Pod of this ServiceAccount pulls with the Secret; nobody edits Pods. The annotation records which links \
         are the syncer's own: it never removes another one.",
    );
    walk.kubectl(&format!(
        "get serviceaccount {BINDING} --namespace {NAMESPACE} -o yaml"
    ))
    .await?;
    let api: Api<ServiceAccount> = Api::namespaced(walk.stack.client()?, NAMESPACE);
    let account = api.get(BINDING).await?;
    let secret = format!("acr-pull-{BINDING}");
    let links: Vec<&str> = account
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|reference| reference.name.as_str())
        .collect();
    walk.screen
        .check("it lists the Secret", links == [secret.as_str()]);
    let record = account.annotations().get(RECORD);
    walk.screen.check(
        "the link is on record",
        record.is_some_and(|record| record.contains(&secret)),
    );
    Ok(())
}
