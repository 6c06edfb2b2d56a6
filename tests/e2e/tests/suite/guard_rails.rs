//! The syncer notices when nothing bounds its rights: it tries forbidden writes as dry runs, on a real API server with the
//! policies of its chart.

use std::time::Duration;

use e2e::{NAMESPACE, Stack, wait_for};
use kube::Client;
use prometheus_client::registry::Registry;
use syncer::{
    guard_rails::{Finding, GuardRails, Right},
    kube_calls::KubeCalls,
    metrics::Metrics,
};

use crate::shared::beside_others;

/// A policy takes effect within a second; the control plane's start may have been a moment ago.
const EFFECT: Duration = Duration::from_secs(15);

fn guard_rails(client: Client) -> GuardRails {
    let metrics = Metrics::register(&mut Registry::default());
    GuardRails::new(client, KubeCalls::new(metrics.clone()), metrics)
}

#[test]
fn guard_rails_policies_of_the_chart_bound_every_right() -> anyhow::Result<()> {
    beside_others(async |stack: &Stack| {
        let syncer = stack
            .plane()
            .client_for_service_account(NAMESPACE, "acrpull-syncer")
            .await?;
        let guard_rails = guard_rails(syncer);
        let bounded = Right::ALL.map(|right| (right, Finding::Bounded));
        wait_for("all policies are in effect", EFFECT, async || {
            Ok(guard_rails.findings().await == bounded)
        })
        .await
    })
}

#[test]
fn guard_rails_rights_without_a_policy_are_found() -> anyhow::Result<()> {
    beside_others(async |stack: &Stack| {
        // The policies are about the syncer's user; nothing bounds this one.
        let findings = guard_rails(stack.client()?).findings().await;
        assert_eq!(findings, Right::ALL.map(|right| (right, Finding::Unbounded)));
        Ok(())
    })
}
