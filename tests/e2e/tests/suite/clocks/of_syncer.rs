//! The syncer's machine. It asks a broker whose clock is right.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{Machine, Pod, PullSecret, poll, wait_for};
use jiff::Timestamp;

use super::{HOURS, KEPT, RECOVERED, RENEWED, Scene, WRONG, at_most, clock, end_of_token, questions, team};
use crate::shared::{SHORT_LIFE_S, STEPPED, STEPPED_SOON, beside_others};

/// Past the time at which a token of an hour is renewed, and before its end.
const DUE: i64 = 45 * 60;
/// A token is renewed before its end.
const SHORT_LIFE: Duration = Duration::from_secs(SHORT_LIFE_S);
/// What the syncer says when it notices. Once for each time that somebody sets the clock.
const NOTICED: &str = "the clock was set, or the machine slept";

/// With the clock ahead, what the broker says looks late or past. Nothing is gained then by asking again and again.
#[test]
fn s7_syncer_whose_clock_is_ahead_leaves_its_secrets_and_goes_on_when_it_is_right() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let (clock, team) = (clock(stack, "ahead").await?, team(stack).await?);
        let scene = Scene::new(&team, "ahead");
        let machine = Machine {
            clock: Some(clock.clone()),
            ..Machine::default()
        };
        let syncer = stack
            .syncer()
            .elsewhere(machine, "acrpull-syncer-ahead", &scene.arguments())
            .await?;
        let play = async {
            scene.bind(KEPT, &STEPPED).await?;
            scene.bind(RENEWED, &STEPPED_SOON).await?;
            let before = scene.secrets(KEPT).await?;
            let renewed = scene.secrets(RENEWED).await?;
            let fetched = scene.tokens_fetched(stack).await?;

            // Every token seems to be due. One that is a while from its end is as good as ever.
            let asked = questions(&syncer).await?;
            scene.statuses_written(&[KEPT], || clock.set(DUE)).await?;
            has_noticed(&syncer, 1).await?;
            scene.ready_again(KEPT).await?;
            scene.bind("later", &STEPPED).await?;
            let asked_since = questions(&syncer).await? - asked;
            println!("tokens seem to be due: {asked_since} questions");
            assert!(asked_since <= at_most(3), "{asked_since}");

            // Every token seems to have ended.
            let asked = questions(&syncer).await?;
            let written = versions(&scene.secrets(KEPT).await?);
            scene
                .statuses_written(&[KEPT, RENEWED, "later"], || clock.set(HOURS))
                .await?;
            has_noticed(&syncer, 2).await?;
            assert_eq!(
                versions(&scene.secrets(KEPT).await?),
                written,
                "a Secret was written"
            );
            for side in &scene.sides {
                side.refused(KEPT, "Ready", "ClockAhead").await?;
            }
            let asked_since = questions(&syncer).await? - asked;
            println!("tokens seem to have ended: {asked_since} questions");
            assert!(asked_since <= at_most(3), "{asked_since}");
            // One of them is that of the later bindings.
            let fetched_since = scene.tokens_fetched(stack).await? - fetched;
            assert_eq!(fetched_since, scene.sides.len(), "Azure was asked");

            clock.set(0)?;
            for name in [KEPT, RENEWED, "later"] {
                scene.ready_again(name).await?;
            }
            have_been_renewed(&scene, &renewed, RECOVERED).await?;
            has_noticed(&syncer, 3).await?;
            assert_eq!(payloads(&scene.secrets(KEPT).await?), payloads(&before));
            assert_eq!(scene.tokens_fetched(stack).await? - fetched, scene.sides.len());
            anyhow::Ok(())
        };
        tokio::select! {
            wrong = scene.watch_every_write() => wrong?,
            played = play => played?,
        }
        syncer.stop().await;
        Ok(())
    })
}

/// With the clock behind, nothing seems to be due for hours.
#[test]
fn s7_syncer_whose_clock_is_set_back_renews_in_time_and_goes_on_when_it_is_right() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let (clock, team) = (clock(stack, "behind").await?, team(stack).await?);
        let scene = Scene::new(&team, "behind");
        let machine = Machine {
            clock: Some(clock.clone()),
            ..Machine::default()
        };
        let syncer = stack
            .syncer()
            .elsewhere(machine, "acrpull-syncer-behind", &scene.arguments())
            .await?;
        let play = async {
            scene.bind(KEPT, &STEPPED).await?;
            scene.bind(RENEWED, &STEPPED_SOON).await?;
            let before = scene.secrets(KEPT).await?;
            let fetched = scene.tokens_fetched(stack).await?;
            let asked = questions(&syncer).await?;
            let since = Timestamp::now();

            for (round, ahead_s) in [(1, -HOURS), (2, 0)] {
                let first = scene.secrets(RENEWED).await?;
                scene.statuses_written(&[KEPT], || clock.set(ahead_s)).await?;
                has_noticed(&syncer, round).await?;
                let second = have_been_renewed(&scene, &first, SHORT_LIFE).await?;
                for (first, second) in first.iter().zip(&second) {
                    assert!(Timestamp::now() < end_of_token(first)?, "the token had ended");
                    assert_eq!(first.version().1, second.version().1, "the Secret was replaced");
                }
            }
            assert_eq!(
                versions(&scene.secrets(KEPT).await?),
                versions(&before),
                "a Secret was written"
            );
            assert_eq!(scene.tokens_fetched(stack).await?, fetched, "Azure was asked");
            // Renewed as often as ever, and little more: the first of a round may be younger than the other.
            let asked_since = questions(&syncer).await? - asked;
            println!("set back and right again: {asked_since} questions");
            assert!(asked_since <= at_most(1) / 2, "{asked_since}");
            for side in &scene.sides {
                for name in [KEPT, RENEWED] {
                    let status = side.ready(name).await?;
                    let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
                    let became_ready = ready.context("it is Ready")?.last_transition_time.0;
                    assert!(became_ready < since, "{name} was not Ready all the time");
                }
            }
            anyhow::Ok(())
        };
        tokio::select! {
            wrong = scene.watch_every_write() => wrong?,
            played = play => played?,
        }
        syncer.stop().await;
        Ok(())
    })
}

/// The syncer has noticed each step of its clock, once.
async fn has_noticed(syncer: &Pod, steps: usize) -> anyhow::Result<()> {
    let noticed = || {
        let log = syncer.logs()?;
        anyhow::Ok(log.lines().filter(|line| line.contains(NOTICED)).count())
    };
    wait_for("the step of the clock is noticed", WRONG, async || {
        Ok(noticed()? >= steps)
    })
    .await?;
    assert_eq!(noticed()?, steps, "it was noticed more than once");
    Ok(())
}

async fn have_been_renewed(
    scene: &Scene<'_>,
    before: &[PullSecret],
    deadline: Duration,
) -> anyhow::Result<Vec<PullSecret>> {
    poll("the tokens are renewed", deadline, async || {
        let now = scene.secrets(RENEWED).await?;
        let mut pairs = before.iter().zip(&now);
        let are_others = pairs.all(|(before, now)| before.docker_config != now.docker_config);
        Ok(are_others.then_some(now).ok_or("not both of them"))
    })
    .await
}

fn versions(secrets: &[PullSecret]) -> Vec<(String, String)> {
    secrets.iter().map(PullSecret::version).collect()
}

fn payloads(secrets: &[PullSecret]) -> Vec<&str> {
    secrets.iter().map(|secret| &*secret.docker_config).collect()
}
