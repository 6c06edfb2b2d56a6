//! Replicas share nothing, so each has a token of its own; a Secret must not change hands between them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use azure_simulator::{Operation, Service};
use e2e::Rig;
use futures::future::try_join_all;
use proto::v1::{GetDockerConfigResponse, HeldCredential};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use uuid::Uuid;

const REPLICAS: usize = 3;
/// No token is handed out in the last minute of its life: one of 80 s has to be renewed after 20 s.
const LIFE_S: u64 = 80;
const PERIODS: u32 = 2;
/// From one period to the next: the tokens of all replicas have had their time by then. A syncer does not ask in between,
/// because it has a refresh time.
const PERIOD: Duration = Duration::from_secs(23);
/// How long it asks in each of them.
const ASKING: Duration = Duration::from_secs(17);
/// Far more often than a syncer asks: as if it were restarted all the time.
const INTERVAL: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_three_replicas_with_tokens_of_their_own_cause_one_write_per_refresh_period() -> anyhow::Result<()>
{
    let rig = Rig::start("churn", ["churn"]).await?;
    let site = rig.site("churn")?;
    rig.azure().update(|state| {
        if let Some(registry) = state.registry_mut(&site.registry) {
            registry.access_ttl_s = LIFE_S;
        }
    })?;
    let names = (1..=REPLICAS).map(|number| format!("replica-{number}"));
    let brokers = try_join_all(names.map(async |name| rig.broker(&name).await)).await?;
    let callers: Vec<_> = brokers
        .iter()
        .map(|broker| rig.caller(broker))
        .collect::<Result<_, _>>()?;

    let started_at = Instant::now();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut secret = Secret::default();
    for period in 0..PERIODS {
        let from = started_at + PERIOD * period;
        sleep_until(from).await;
        while from.elapsed() < ASKING {
            // Each is asked once in a round, in an order that nobody knows.
            let mut round: Vec<_> = callers.iter().map(|caller| (Uuid::new_v4(), caller)).collect();
            round.sort_unstable_by_key(|(order, _caller)| *order);
            for (_order, caller) in round {
                ticks.tick().await;
                let mut request = rig.federated(site);
                request.held = secret.held.clone();
                let answer = caller.ask(&request).await?;
                let answer = answer.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
                secret.take(answer, started_at.elapsed())?;
            }
        }
    }
    let issued = rig.azure().calls().of(Service::Acr, Operation::Token).count();
    ensure!(
        issued >= 2 * REPLICAS,
        "{issued} tokens: the replicas did not have one each"
    );
    ensure!(
        secret.written_at.len() == usize::try_from(PERIODS)?,
        "written in {PERIODS} periods at {:?}",
        secret.written_at
    );
    Ok(())
}

/// What a syncer keeps of the answers.
#[derive(Default)]
struct Secret {
    held: Option<HeldCredential>,
    written_at: Vec<Duration>,
}

impl Secret {
    fn take(&mut self, answer: GetDockerConfigResponse, at: Duration) -> anyhow::Result<()> {
        if answer.not_modified {
            let held = self
                .held
                .as_ref()
                .context("there is nothing that could be kept")?;
            ensure!(
                answer.fingerprint == held.fingerprint,
                "another one is to be kept"
            );
            return Ok(());
        }
        let seconds = |held: &HeldCredential| held.expire_time.map(|at| at.seconds);
        let next = HeldCredential {
            fingerprint: answer.fingerprint,
            expire_time: answer.expire_time,
        };
        let before = self.held.as_ref().and_then(seconds);
        ensure!(before < seconds(&next), "replaced by one that expires earlier");
        self.held = Some(next);
        self.written_at.push(at);
        Ok(())
    }
}
