//! A thousand callers who need the same thing at once cost Azure one call per hop, whatever comes of it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use azure_simulator::{Action, CloseAt, HangAt, Service};
use e2e::rig::Answer;
use e2e::{Broker, Rig, wait_for};
use futures::future::{join, join_all, try_join_all};
use proto::Reason;
use tokio::sync::Semaphore;

use crate::row::Hop;

const CALLERS: usize = 1_000;
/// A connection carries 512 requests at a time.
const CONNECTIONS: usize = 4;
/// Every call to Azure takes this long: more than all callers take to get there, less than the broker's patience.
const LATENCY_MS: u64 = 7_000;
const ALL_THERE: Duration = Duration::from_secs(20);

/// What comes of the flight, at which hop.
struct Flight {
    name: &'static str,
    hop: Hop,
    fault: Option<Action>,
    ending: Result<(), Reason>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_thousand_misses_on_one_key_are_one_call_per_hop() -> anyhow::Result<()> {
    let flights = flights();
    let rig = Rig::start("single-flight", flights.iter().map(|flight| flight.name)).await?;
    rig.azure().update(|state| {
        state.latency_ms = [Service::Entra, Service::Acr]
            .map(|service| (service, LATENCY_MS))
            .into();
    })?;
    let broker = rig.broker("broker").await?;
    for flight in &flights {
        if let Some(action) = &flight.fault {
            let fault = flight.hop.fault(rig.site(flight.name)?, action.clone());
            rig.azure().add_fault(fault)?;
        }
    }
    // One crowd at a time: all of them together would keep a small machine busy for longer than a flight takes.
    let boarding = Semaphore::new(1);
    let flown = join_all(flights.iter().map(|flight| fly(flight, &rig, &broker, &boarding))).await;
    for (flight, result) in flights.iter().zip(flown) {
        result
            .with_context(|| format!("flight {}", flight.name))
            .inspect_err(|_error| rig.keep_logs())?;
    }
    Ok(())
}

fn flights() -> [Flight; 6] {
    let flight = |name, hop, fault, reason| Flight {
        name,
        hop,
        fault: Some(fault),
        ending: Err(reason),
    };
    [
        // The longest first.
        flight(
            "silent",
            Hop::Exchange,
            Action::Hang {
                at: HangAt::BeforeHeaders,
            },
            Reason::RegistryUnreachable,
        ),
        Flight {
            name: "served",
            hop: Hop::Token,
            fault: None,
            ending: Ok(()),
        },
        flight(
            "unauthorized",
            Hop::Exchange,
            Action::status(401),
            Reason::RegistryUnauthorized,
        ),
        flight(
            "throttled",
            Hop::Entra,
            Action::throttle_s(20),
            Reason::UpstreamThrottled,
        ),
        flight(
            "failing",
            Hop::Exchange,
            Action::status(500),
            Reason::RegistryUnreachable,
        ),
        flight(
            "broken-off",
            Hop::Token,
            Action::Reset {
                at: CloseAt::BeforeHeaders,
            },
            Reason::RegistryUnreachable,
        ),
    ]
}

async fn fly(flight: &Flight, rig: &Rig, broker: &Broker, boarding: &Semaphore) -> anyhow::Result<()> {
    let site = rig.site(flight.name)?;
    let request = rig.federated(site);
    let callers: Vec<_> = (0..CONNECTIONS)
        .map(|_| rig.caller(broker))
        .collect::<Result<_, _>>()?;
    let turn = boarding.acquire().await?;
    let joined_before = joined(broker).await?;
    let asked = callers
        .iter()
        .cycle()
        .take(CALLERS)
        .map(|caller| caller.ask(&request));
    let boarded = async {
        // A broker with a crowd at its door may leave a scrape without an answer.
        let all = joined_before + u64::try_from(CALLERS)? - 1;
        wait_for("all callers wait for one flight", ALL_THERE, async || {
            Ok(joined(broker).await.is_ok_and(|joined| joined >= all))
        })
        .await?;
        drop(turn);
        anyhow::Ok(())
    };
    let (answers, boarded) = join(try_join_all(asked), boarded).await;
    let answers: Vec<Answer> = answers?;
    boarded?;

    let outcome = |answer: &Answer| match answer {
        Ok(credential) => Ok(credential.fingerprint.clone()),
        Err(refusal) => Err((refusal.reason, refusal.message.clone())),
    };
    let first = answers.first().map(outcome).context("nobody asked")?;
    ensure!(
        first.as_ref().map(|_given| ()).map_err(|(reason, _text)| *reason) == flight.ending,
        "ended with {first:?}"
    );
    ensure!(
        answers.iter().all(|answer| outcome(answer) == first),
        "not all got the same"
    );
    for hop in [Hop::Entra, Hop::Exchange, Hop::Token] {
        // After a failure nobody goes on.
        let expected = usize::from(hop as u8 <= flight.hop as u8);
        let calls = hop.calls(rig, site).count();
        ensure!(calls == expected, "{calls} calls at {hop:?}, not {expected}");
    }
    Ok(())
}

/// How many callers have found that what they need is being fetched.
async fn joined(broker: &Broker) -> anyhow::Result<u64> {
    let labels = [("cache", "acr_access"), ("result", "coalesced")];
    broker
        .counted("acrpull_broker_cache_requests_total", &labels)
        .await
}
