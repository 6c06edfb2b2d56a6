//! A registry that asks for fewer requests gets none until the time that it has named, and its neighbours feel nothing.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use azure_simulator::{Action, Fault, RetryAfter, Service};
use e2e::rig::Caller;
use e2e::{Rig, Site};
use futures::future::{join, try_join_all};
use jiff::{SignedDuration, Timestamp};
use proto::Reason;
use tokio::time::Instant;

/// One of ten.
const REGISTRIES: [&str; 10] = ["throttled", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"];
/// For so long the one says 429, and names what is left of it.
const PAUSE: Duration = Duration::from_secs(6);
/// For so long all are asked, each time for something new.
const RUN: Duration = Duration::from_secs(8);
/// Between two requests to one registry.
const INTERVAL: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u1_throttled_registry_is_left_alone_and_nine_others_are_served() -> anyhow::Result<()> {
    let rig = Rig::start("throttled-registry", REGISTRIES).await?;
    let broker = rig.broker("broker").await?;
    let caller = rig.caller(&broker)?;
    let (throttled, others) = rig.sites().split_first().context("there are ten")?;
    // Each is known to the broker, so that what follows is about one kind of call.
    try_join_all(rig.sites().iter().map(|site| ask(&rig, &caller, site, "first"))).await?;

    let countdown = Action::Throttle {
        retry_after: Some(RetryAfter::Seconds(i64::try_from(PAUSE.as_secs())?)),
        countdown: true,
    };
    let now = rig.azure().state().clock.at(Service::Acr, Timestamp::now());
    let fault = Fault {
        to: Some(now + SignedDuration::try_from(PAUSE)?),
        ..Fault::new(countdown)
            .on_service(Service::Acr)
            .host(&throttled.registry)
    };
    rig.azure().add_fault(fault)?;
    let served = try_join_all(others.iter().map(|site| insist(&rig, &caller, site)));
    let (refused, served) = join(bear(&rig, &caller, throttled), served).await;
    let judged = refused.and_then(|()| {
        ensure!(
            served?.iter().all(|requests| *requests >= 10),
            "the others were hardly asked"
        );
        ensure_left_alone(&rig, throttled)
    });
    judged.inspect_err(|_error| rig.keep_logs())
}

/// Every request must be served. Returns how many there were.
async fn insist(rig: &Rig, caller: &Caller, site: &Site) -> anyhow::Result<u32> {
    let end = Instant::now() + RUN;
    let mut requests = 0;
    while Instant::now() < end {
        ask(rig, caller, site, &format!("app{requests}")).await?;
        requests += 1;
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(requests)
}

/// Asks on while it is refused; in the end there must be a credential again.
async fn bear(rig: &Rig, caller: &Caller, site: &Site) -> anyhow::Result<()> {
    let end = Instant::now() + RUN + PAUSE;
    for number in 0.. {
        let mut request = rig.federated(site);
        request.scopes = vec![format!("repository:team/app{number}:pull")];
        match caller.ask(&request).await? {
            Ok(_credential) => return Ok(()),
            Err(refusal) => {
                ensure!(refusal.reason == Reason::UpstreamThrottled, "{refusal:?}");
                ensure!(
                    refusal.retry_after.is_some_and(|wait| !wait.is_zero()),
                    "{refusal:?}"
                );
            }
        }
        ensure!(Instant::now() < end, "it was never asked again");
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(())
}

async fn ask(rig: &Rig, caller: &Caller, site: &Site, repository: &str) -> anyhow::Result<()> {
    let mut request = rig.federated(site);
    request.scopes = vec![format!("repository:team/{repository}:pull")];
    let answer = caller.ask(&request).await?;
    answer.map_err(|refusal| anyhow::anyhow!("{}: {refusal:?}", site.registry))?;
    Ok(())
}

/// After the first 429 came nothing until its time was over, and then no second one.
fn ensure_left_alone(rig: &Rig, site: &Site) -> anyhow::Result<()> {
    let calls = rig.azure().calls().to(Service::Acr).host(&site.registry);
    let throttled = calls.clone().status(429);
    ensure!(
        throttled.count() == 1,
        "{} calls were answered 429",
        throttled.count()
    );
    let pause = calls
        .shortest_gap_after_throttle()
        .context("it was never asked again")?;
    ensure!(pause >= PAUSE, "it was asked again after {pause:?}");
    Ok(())
}
