//! Selecting a cluster that already runs, instead of starting one.

use std::env;

use anyhow::{Context as _, bail};
use kube::config::Kubeconfig;

/// Set to `existing`, it selects the cluster of `KUBECONFIG`.
const CLUSTER_VARIABLE: &str = "ACRPULL_E2E_CLUSTER";

/// The only value of it that means something.
const EXISTING: &str = "existing";

/// The kubeconfig of the existing cluster, if one is selected.
pub(super) fn selected() -> anyhow::Result<Option<Kubeconfig>> {
    match env::var_os(CLUSTER_VARIABLE) {
        None => return Ok(None),
        Some(value) if value.is_empty() => return Ok(None),
        Some(value) if value == EXISTING => {}
        Some(value) => bail!(
            "{CLUSTER_VARIABLE} is {}: set it to {EXISTING} or unset it",
            value.display()
        ),
    }
    let kubeconfig = Kubeconfig::from_env()
        .context("failed to read the files of KUBECONFIG")?
        .with_context(|| {
            format!("{CLUSTER_VARIABLE}={EXISTING} needs KUBECONFIG: set it to the cluster's file")
        })?;
    Ok(Some(kubeconfig))
}
