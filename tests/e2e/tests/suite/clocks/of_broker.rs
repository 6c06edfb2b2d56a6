//! The broker's machine. The syncer that asks it, and Azure behind it, go by the true time.

use std::time::Duration;

use e2e::{Machine, wait_for};
use futures::future::try_join_all;

use super::{HOURS, KEPT, Scene, at_most, clock, questions, team};
use crate::shared::{STEPPED, beside_others};

/// A request for a refresh is heard at once.
const HEARD: Duration = Duration::from_secs(15);

/// Hours ahead, the broker takes its callers' tokens for expired, hours behind for not yet valid: nobody gets anything,
/// and Azure is not asked. What is in the Secrets serves on, and all is well when the clock is.
#[test]
fn s7_broker_whose_clock_is_set_hands_out_nothing_and_is_asked_no_more_than_before() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let (clock, team) = (clock(stack, "broker").await?, team(stack).await?);
        let scene = Scene::new(&team, "broker");
        let machine = Machine {
            clock: Some(clock.clone()),
            ..Machine::default()
        };
        let broker = stack
            .broker()
            .elsewhere(machine, "acrpull-broker-clock", &[])
            .await?;
        let port = broker.address("grpc-https")?.port();
        let mut arguments = scene.arguments();
        arguments.push(format!("--broker-address=https://localhost:{port}"));
        let syncer = stack
            .syncer()
            .another("acrpull-syncer-broker-clock", &arguments)
            .await?;
        let request = async |value: &str| {
            try_join_all(scene.sides.iter().map(|side| side.request_refresh(KEPT, value))).await
        };
        let play = async {
            scene.bind(KEPT, &STEPPED).await?;
            for (ahead_s, way) in [(HOURS, "ahead"), (-HOURS, "behind")] {
                let before = scene.secrets(KEPT).await?;
                let calls = scene.tokens_fetched(stack).await?;
                let asked = questions(&syncer).await?;
                scene.statuses_written(&[KEPT], || clock.set(ahead_s)).await?;
                // Asked for something while it is wrong: nothing is due by itself.
                request(way).await?;
                for side in &scene.sides {
                    let status = side.condition(KEPT, "RefreshDegraded", "True").await?;
                    let refused = status
                        .conditions
                        .iter()
                        .find(|one| one.type_ == "RefreshDegraded");
                    println!("{way}: {}", refused.map(|one| &*one.message).unwrap_or_default());
                    side.ready(KEPT).await?;
                }
                for (before, now) in before.iter().zip(scene.secrets(KEPT).await?) {
                    assert_eq!(before.version(), now.version(), "{way}: a Secret was written");
                }
                assert_eq!(
                    scene.tokens_fetched(stack).await?,
                    calls,
                    "{way}: Azure was asked"
                );
                let asked_since = questions(&syncer).await? - asked;
                println!("{way}: {asked_since} questions");
                assert!(asked_since <= at_most(1), "{way}: {asked_since}");

                clock.set(0)?;
                let right = format!("after-{way}");
                request(&right).await?;
                wait_for("the requests are answered", HEARD, async || {
                    let secrets = scene.secrets(KEPT).await?;
                    let mut answers = secrets
                        .iter()
                        .map(|secret| secret.annotation("acrpull.microsoft.com/refresh-requested"));
                    Ok(answers.all(|answer| answer == Some(&*right)))
                })
                .await?;
                scene.ready_again(KEPT).await?;
                for side in &scene.sides {
                    side.condition(KEPT, "RefreshDegraded", "False").await?;
                }
            }
            anyhow::Ok(())
        };
        tokio::select! {
            wrong = scene.watch_every_write() => wrong?,
            played = play => played?,
        }
        syncer.stop().await;
        broker.stop().await;
        Ok(())
    })
}
