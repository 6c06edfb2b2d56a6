//! Guarantee S7 with a real process: the clock of a broker's machine is set while it serves. Its callers have tokens that are
//! good by either clock, so that it goes on serving, as far as it can.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use azure_simulator::{Operation, Service, ServiceAccountToken};
use e2e::rig::{Caller, ISSUER};
use e2e::{BROKER_AUDIENCE, Clock, Rig, Site};
use jiff::Timestamp;
use proto::Reason;
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

/// In seconds. Half of the life of a registry's token, as registries issue them,
const HALF_AN_HOUR: i64 = 30 * 60;
/// and more than the whole.
const HOURS: i64 = 2 * 3_600;
/// Seconds that the tokens of one registry live: they are renewed after half of that, and in the last minute they are
/// handed out no more.
const SHORT_LIFE_S: u64 = 90;
/// Longer than the token of the caller, which is good by a clock that is hours off.
const A_DAY_S: u64 = 24 * 3_600;
/// How often is asked for a token.
const OFTEN: Duration = Duration::from_millis(500);
/// How long while the clock is ahead, by which the short-lived tokens are dead as soon as they come.
const AHEAD: Duration = Duration::from_secs(10);
/// How often Azure may be asked for one of those meanwhile: failures are remembered for seconds.
const MOST_CALLS: usize = 8;
/// How long while it is behind: in that time each of them is replaced.
const BEHIND: Duration = Duration::from_secs(SHORT_LIFE_S);
/// A failure is remembered for up to a minute.
const RECOVERED: Duration = Duration::from_secs(75);

/// What came of asking for a while.
#[derive(Default)]
struct Tally {
    /// Tokens, by the fingerprints of their payloads.
    tokens: BTreeSet<Vec<u8>>,
    served: usize,
    refused: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s7_broker_whose_clock_is_set_hands_out_what_the_registry_takes_and_asks_azure_as_before()
-> anyhow::Result<()> {
    let rig = Rig::start("clock", ["long", "short"]).await?;
    let (long, short) = (rig.site("long")?, rig.site("short")?);
    rig.azure().update(|state| {
        if let Some(registry) = state.registry_mut(&short.registry) {
            registry.access_ttl_s = SHORT_LIFE_S;
        }
    })?;
    let clock = Clock::new(&rig.folder().join("clock")).await?;
    let environment = clock.environment();
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| Some((*name, value.to_str()?)))
        .collect::<Option<_>>()
        .context("a path that is no text")?;
    let broker = rig
        .broker_with("broker", &environment, |configuration| {
            if let Some(Value::Object(cluster)) = configuration.pointer_mut("/clusters/0") {
                cluster.insert("maxTokenLifetimeSeconds".to_owned(), json!(A_DAY_S));
            }
        })
        .await?;
    let caller = rig.caller_with(&broker, &long_lived_token(&rig)?)?;

    let first = ask_for(&rig, &caller, long, OFTEN).await?;
    ask_for(&rig, &caller, short, OFTEN).await?;
    ensure!(first.refused == 0, "it was refused with a clock that is right");

    clock.set(HALF_AN_HOUR)?;
    let before = fetched(&rig, short);
    let (kept, dead) = tokio::try_join!(
        ask_for(&rig, &caller, long, AHEAD),
        ask_for(&rig, &caller, short, AHEAD)
    )?;
    ensure!(
        kept.refused == 0 && kept.tokens == first.tokens,
        "a good token was not served"
    );
    ensure!(
        dead.served == 0,
        "what is dead by the broker's clock was handed out"
    );
    let calls = fetched(&rig, short) - before;
    println!("ahead: refused {} times, {calls} calls", dead.refused);
    ensure!(calls <= MOST_CALLS, "{calls} calls in {AHEAD:?}");

    clock.set(0)?;
    let end = Instant::now() + RECOVERED;
    while ask_for(&rig, &caller, short, OFTEN).await?.served == 0 {
        ensure!(Instant::now() < end, "it did not recover");
    }

    clock.set(-HOURS)?;
    let before = fetched(&rig, short);
    let (kept, renewed) = tokio::try_join!(
        ask_for(&rig, &caller, long, BEHIND),
        ask_for(&rig, &caller, short, BEHIND)
    )?;
    ensure!(
        kept.refused == 0 && kept.tokens == first.tokens,
        "a good token was not served"
    );
    let calls = fetched(&rig, short) - before;
    println!(
        "behind: served {} times, refused {} times, {calls} calls",
        renewed.served, renewed.refused
    );
    ensure!(renewed.refused == 0, "{} were refused", renewed.refused);
    ensure!(renewed.tokens.len() >= 2, "no token was replaced");
    ensure!(calls <= MOST_CALLS, "{calls} calls in {BEHIND:?}");
    ensure!(fetched(&rig, long) == 1, "the other registry was asked");
    Ok(())
}

/// Asks again and again. Each token that is handed out is tried at the registry, which goes by the true time.
async fn ask_for(rig: &Rig, caller: &Caller, site: &Site, time: Duration) -> anyhow::Result<Tally> {
    let (mut tally, end) = (Tally::default(), Instant::now() + time);
    let mut often = interval(OFTEN);
    while Instant::now() < end {
        often.tick().await;
        match caller.ask(&site.broker_owned()).await? {
            Ok(credential) => {
                ensure!(
                    rig.is_accepted(site, &credential).await?,
                    "{} refused what was handed out",
                    site.registry
                );
                tally.served += 1;
                tally.tokens.insert(credential.fingerprint.to_vec());
            }
            Err(refusal) => {
                ensure!(refusal.reason == Reason::UpstreamMalformed, "{refusal:?}");
                tally.refused += 1;
            }
        }
    }
    Ok(tally)
}

/// Tokens that a registry was asked for.
fn fetched(rig: &Rig, site: &Site) -> usize {
    let calls = rig.azure().calls().of(Service::Acr, Operation::Token);
    // The test itself goes there by the way of a container runtime, which is another one.
    calls
        .host(&site.registry)
        .filter(|call| call.method == "POST")
        .count()
}

/// One that is valid by a clock that is hours off, of the syncer.
fn long_lived_token(rig: &Rig) -> anyhow::Result<String> {
    let issued = Timestamp::now().as_second() - 2 * HOURS;
    let claims = json!({"iat": issued, "nbf": issued});
    let wanted = ServiceAccountToken {
        ttl: 2 * HOURS,
        claims: claims.as_object().cloned(),
        ..ServiceAccountToken::new(ISSUER, "acrpull-system", "acrpull-syncer", BROKER_AUDIENCE)
    };
    Ok(rig.azure().service_account_token(&wanted)?)
}
