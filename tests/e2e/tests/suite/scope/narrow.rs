//! The second syncer: its release, its process, and the stack's own one put aside for as long.

use std::sync::Arc;

use controlplane::Release;
use e2e::kubelet::Node;
use e2e::{Binaries, Machine, NAMESPACE, Pod, Stack, chart};
use serde_json::{Value, json};

/// Its ServiceAccount. The stack's broker knows it.
pub(super) const ACCOUNT: &str = "acrpull-narrow";

/// Runs `test` beside a syncer of the chart with this name and these values, and without the stack's own.
pub(super) async fn with_narrow_syncer(
    stack: &Stack,
    name: &str,
    values: &Value,
    test: impl AsyncFnOnce(&Pod) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut all = json!({
        "fullnameOverride": name,
        "serviceAccount": {"name": ACCOUNT},
        "broker": {"address": stack.broker_url()?, "caBundle": {"secret": "acrpull-broker-tls"}},
        // Its policy on bindings judges those of the whole cluster.
        "allowedRegistryDomains": ["azurecr.io", "azurecr.us", "azurecr.cn", "azurecr.airgap.example"],
        "crds": {"enabled": false},
        "rbac": {"aggregate": false},
        "log": {"level": "trace"},
    });
    if let (Value::Object(all), Value::Object(values)) = (&mut all, values) {
        all.extend(values.clone());
    }
    let helm = stack.plane().helm()?;
    helm.install(&Release {
        name: name.to_owned(),
        chart: chart("acrpull-syncer"),
        namespace: NAMESPACE.to_owned(),
        values: all.to_string(),
    })
    .await?;
    stack.syncer().stop().await;
    let result = run(stack, name, test).await;
    // Whatever came of it: others need the stack as it was.
    let uninstalled = helm.uninstall(name, NAMESPACE).await;
    let started = stack.syncer().start().await;
    result?;
    uninstalled?;
    started
}

async fn run(
    stack: &Stack,
    name: &str,
    test: impl AsyncFnOnce(&Pod) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let node = Node {
        plane: Arc::clone(stack.plane()),
        binaries: Binaries::of(&["syncer"]).await?,
        machine: Machine::default(),
    };
    let syncer = Pod::run(&node, NAMESPACE, name).await?;
    let result = test(&syncer).await;
    syncer.stop().await;
    result
}
