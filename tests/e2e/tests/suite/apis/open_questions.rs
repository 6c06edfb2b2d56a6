//! What happens to a binding while the broker is being asked for it: nobody waits for an answer that nobody wants any
//! more, and none is written.

use std::time::Duration;

use azure_simulator::{Action, Fault, Operation, Service};
use e2e::{Team, wait_for};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use syncer::binding::ApiVersion;
use tokio::time::Instant;

use super::{ACCOUNT, OWN, SCOPE, Side};
use crate::shared::{EITHER_API, SLOW, beside_others};
use crate::side::PATIENCE;

/// How long the registry takes; a little less than the broker waits for it.
const SLOW_FOR: Duration = Duration::from_secs(8);
/// The promise: a new token within this.
const SOON: Duration = Duration::from_secs(5);
/// For an answer on its way back, and what would be written of it.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// One for each thing that happens to a binding whose question is open.
const NAMES: [&str; 3] = ["corrected", "deleted", "recreated"];

#[test]
fn b10_binding_that_changes_while_the_broker_is_asked_gets_its_token_within_five_seconds()
-> anyhow::Result<()> {
    beside_others(async |stack| {
        let slow = Fault::new(Action::Latency {
            ms: u64::try_from(SLOW_FOR.as_millis())?,
            jitter_ms: 0,
        });
        let slow = slow.on(Service::Acr, Operation::Exchange).host(SLOW.registry);
        stack.azure().add_fault(slow).await?;
        let team = stack.team(SLOW.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        try_join_all(sides.iter().map(async |side| {
            let spec = side.spec_for(&SLOW, ACCOUNT, SCOPE);
            try_join_all(NAMES.map(|name| side.create(name, &spec))).await
        }))
        .await?;
        // A link is made right before its question is put.
        let client_id = SLOW.identity().client_id;
        wait_for("all are linked and the broker is at it", PATIENCE, async || {
            let asked = stack.azure().calls().await?.client_id(&client_id);
            Ok(!asked.is_empty() && team.links(ACCOUNT).await?.len() == 1 + 2 * NAMES.len())
        })
        .await?;
        let asked = Instant::now();
        assert_eq!(secrets(&team).await?, [""; 0], "it was answered already");

        for took in try_join_all(sides.iter().map(change)).await? {
            println!("bindings that changed while they were asked for were Ready after {took:?}");
            assert!(took <= SOON, "it took {took:?}");
        }
        assert!(
            asked.elapsed() < SLOW_FOR,
            "the questions were not open all that time"
        );

        // The broker finishes what it began, and has the answer that nobody wants.
        wait_for("the slow registry has answered", PATIENCE, async || {
            let tokens = stack.azure().calls().await?;
            let tokens = tokens.of(Service::Acr, Operation::Token).host(SLOW.registry);
            Ok(!tokens.is_empty())
        })
        .await?;
        tokio::time::sleep(AFTERWARDS).await;
        for side in &sides {
            for name in ["corrected", "recreated"] {
                let secret = side.secret(name).await?;
                assert!(secret.login(EITHER_API.registry).is_ok(), "{name}");
                assert!(
                    secret.login(SLOW.registry).is_err(),
                    "{name}: a stale answer was stored"
                );
                side.ready(name).await?;
            }
        }
        let mut expected: Vec<_> = sides
            .iter()
            .flat_map(|side| ["corrected", "recreated"].map(|name| side.secret_name(name)))
            .collect();
        expected.sort();
        assert_eq!(
            secrets(&team).await?,
            expected,
            "one that was deleted has a Secret"
        );
        Ok(())
    })
}

/// What happens to the bindings of one API, and how long it took until those that are left were Ready.
async fn change(side: &Side<'_>) -> anyhow::Result<Duration> {
    let (changed, right) = (Instant::now(), side.spec(ACCOUNT, SCOPE));
    side.patch("corrected", &json!({ "spec": right })).await?;
    side.delete("deleted").await?;
    side.delete("recreated").await?;
    side.create("recreated", &right).await?;
    for name in ["corrected", "recreated"] {
        side.ready(name).await?;
    }
    Ok(changed.elapsed())
}

/// The names of the Secrets of the team, in order.
async fn secrets(team: &Team<'_>) -> anyhow::Result<Vec<String>> {
    let secrets = team
        .api::<Secret>()
        .list(&kube::api::ListParams::default())
        .await?;
    let mut names: Vec<_> = secrets
        .into_iter()
        .filter_map(|secret| secret.metadata.name)
        .collect();
    names.sort();
    Ok(names)
}
