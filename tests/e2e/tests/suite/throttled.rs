//! An API server that throttles the syncer: API Priority and Fairness lets one call of it through at a time and refuses the
//! others. Only the Lease is spared, as it would be by another level in a cluster: who loses that is replaced, which is
//! another test.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{NAMESPACE, Stack, wait_for};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::side::{ACCOUNT, SCOPE, Side, in_both_apis_alone};

const REJECTED: &str = "apiserver_flowcontrol_rejected_requests_total";
const NAME: &str = "one-at-a-time-for-the-syncer";
const SYNCER: &str = "acrpull-syncer";
const PATIENCE: Duration = Duration::from_secs(15);
/// Bindings that are made at once, and the most calls for each that may be refused until all are served: two were seen. Those
/// that are refused together come back apart, after the second that the server names; together, each of the four calls for
/// a binding would cost five, and at once, hundreds.
const COUNT: u64 = 10;
const MOST_REFUSED: u64 = 6;

#[test]
fn api_server_that_throttles_is_waited_for_and_no_binding_is_forgotten() -> anyhow::Result<()> {
    in_both_apis_alone(async |stack, side| {
        side.create("before", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("before").await?;
        let secret = side.secret("before").await?.version();
        throttle(&stack.client()?).await?;
        let served = serve(stack, side).await;
        let_through(&stack.client()?).await?;
        let refused = served?;
        ensure!(refused > 0, "nothing was refused");
        ensure!(refused <= COUNT * MOST_REFUSED, "{refused} calls were refused");
        ensure!(
            side.secret("before").await?.version() == secret,
            "a Secret that nothing was wrong with was written"
        );
        Ok(())
    })
}

/// Makes bindings and waits until all are Ready. The calls that were refused meanwhile.
async fn serve(stack: &Stack, side: &Side<'_>) -> anyhow::Result<u64> {
    let syncer = stack
        .plane()
        .client_for_service_account(NAMESPACE, SYNCER)
        .await?;
    let accounts: Api<ServiceAccount> = Api::all(syncer);
    wait_for("the level is in effect", PATIENCE, async || {
        accounts.list(&ListParams::default().limit(1)).await?;
        Ok(counted(stack, "apiserver_flowcontrol_dispatched_requests_total").await? > 0)
    })
    .await?;
    let before = counted(stack, REJECTED).await?;
    let names: Vec<_> = (0..COUNT).map(|number| format!("b{number}")).collect();
    let spec = side.spec(ACCOUNT, SCOPE);
    try_join_all(names.iter().map(async |name| side.create(name, &spec).await)).await?;
    for name in &names {
        side.ready(name).await?;
    }
    Ok(counted(stack, REJECTED).await? - before)
}

/// Calls of the level, as the API server counts them itself.
async fn counted(stack: &Stack, metric: &str) -> anyhow::Result<u64> {
    let metrics = stack.plane().kubectl(&["get", "--raw", "/metrics"]).await?;
    let samples = metrics.lines().filter(|line| {
        line.strip_prefix(metric)
            .is_some_and(|rest| rest.starts_with('{'))
            && line.contains(NAME)
    });
    let counts = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}

async fn throttle(client: &Client) -> anyhow::Result<()> {
    let level = json!({
        "metadata": {"name": NAME},
        "spec": {
            "type": "Limited",
            "limited": {"nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
                "limitResponse": {"type": "Reject"}},
        },
    });
    let subject =
        json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": NAMESPACE, "name": SYNCER}});
    let resources = json!({
        "verbs": ["*"], "apiGroups": ["*"], "clusterScope": true, "namespaces": ["*"],
        "resources": ["secrets", "serviceaccounts", "serviceaccounts/token", "acrpullbindings", "acrpullbindings/status"],
    });
    let flow = json!({
        "metadata": {"name": NAME},
        "spec": {
            "priorityLevelConfiguration": {"name": NAME},
            "matchingPrecedence": 2,
            "rules": [{"subjects": [subject], "resourceRules": [resources]}],
        },
    });
    let params = PostParams::default();
    let level: PriorityLevelConfiguration = serde_json::from_value(level)?;
    let flow: FlowSchema = serde_json::from_value(flow)?;
    let levels = Api::<PriorityLevelConfiguration>::all(client.clone());
    levels
        .create(&params, &level)
        .await
        .context("failed to create the priority level")?;
    let flows = Api::<FlowSchema>::all(client.clone());
    flows
        .create(&params, &flow)
        .await
        .context("failed to create the flow schema")?;
    Ok(())
}

async fn let_through(client: &Client) -> anyhow::Result<()> {
    let params = DeleteParams::default();
    Api::<FlowSchema>::all(client.clone())
        .delete(NAME, &params)
        .await?;
    let levels = Api::<PriorityLevelConfiguration>::all(client.clone());
    levels.delete(NAME, &params).await?;
    wait_for("the throttle is gone", PATIENCE, async || {
        Ok(levels.get_opt(NAME).await?.is_none())
    })
    .await
}
