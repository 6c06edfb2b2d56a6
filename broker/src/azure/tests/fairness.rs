//! Where many ask at once: budgets, shares, order.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proto::Reason;
use runtime::tasks::spawn_detached;
use tokio::time::{Instant, sleep};

use super::{
    one_call::identity,
    rig::{Reaction, Rig, attempt, most_within, token},
};
use crate::{authz::TokenSource, azure::Attempt};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Asks until there is a token, as often as it is told to come back.
async fn persist(rig: &Rig, host: &str, attempt: &Attempt) -> Duration {
    let started = Instant::now();
    loop {
        match rig.ask(host, attempt).await {
            Ok(_) => return started.elapsed(),
            Err(error) => {
                assert_eq!((error.reason, error.is_remembered), (Reason::Overloaded, true));
                sleep(error.retry_after.unwrap()).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn u3_two_hundred_identities_at_once_stay_within_what_a_machine_may_ask() {
    let rig = Arc::new(Rig::new(|sent| {
        let spread = u32::try_from(sent.uri.len() * 7919 % 900).unwrap();
        Reaction::Answer {
            after: MS * (10 + spread),
            status: 200,
            headers: Vec::new(),
            body: r#"{"access_token":"t","expires_in":"86399","token_type":"Bearer"}"#.to_owned(),
        }
    }));
    let callers: Vec<_> = (0..200_usize)
        .map(|number| {
            let rig = Arc::clone(&rig);
            let source = TokenSource::BrokerOwned(identity(&format!("identity{}", "x".repeat(number))));
            spawn_detached(async move {
                let attempt = attempt(&format!("n{}", number % 7));
                while let Err(error) = rig.azure.entra_token(&source, &attempt).await {
                    assert_eq!(error.reason, Reason::Overloaded);
                    sleep(error.retry_after.unwrap()).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let starts: Vec<_> = rig.transport.log().iter().map(|sent| sent.at).collect();
    assert_eq!(starts.len(), 200, "one call each");
    assert!(rig.transport.most_in_flight() <= 4);
    assert!(most_within(&starts, SECOND) <= 10);
}

#[tokio::test(start_paused = true)]
async fn u6_noisy_tenant_gets_no_more_than_its_share_while_others_wait() {
    let rig = Arc::new(Rig::new(|sent| token(100 * MS, &sent.host)));
    let started = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    for (namespace, count) in [("noisy", 3000), ("b", 200), ("c", 200), ("d", 200), ("e", 200)] {
        for number in 0..count {
            let (rig, started) = (Arc::clone(&rig), Arc::clone(&started));
            callers.push(spawn_detached(async move {
                // Each has a scope of its own, so that the log tells who asked.
                let scope = format!("repository:{namespace}/{number}:pull");
                let scopes = proto::types::ScopeSet::from_field(&scope).unwrap();
                let (host, refresh) = ("r.azurecr.io".parse().unwrap(), "t".to_owned().into());
                let answer = rig
                    .azure
                    .access_token(&host, &refresh, &scopes, &attempt(namespace))
                    .await;
                if answer.is_err_and(|error| error.reason == Reason::UpstreamMalformed) {
                    started.lock().unwrap().push(namespace);
                }
            }));
        }
    }
    for caller in callers {
        caller.await.unwrap();
    }
    // In 5 s there were 50 rounds of 28 calls: as long as all five waited, each had a fifth.
    let started = started.lock().unwrap();
    let mut shares = BTreeMap::<_, usize>::new();
    for namespace in started.iter().skip(32).take(800) {
        *shares.entry(*namespace).or_default() += 1;
    }
    assert!(
        shares.values().all(|share| (140..=180).contains(share)),
        "{shares:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn u6_quiet_tenant_is_not_kept_waiting_by_a_full_queue() {
    let rig = Arc::new(Rig::new(|sent| token(100 * MS, &sent.host)));
    let noisy: Vec<_> = (0..10_000)
        .map(|_| {
            let rig = Arc::clone(&rig);
            spawn_detached(async move { drop(rig.ask("r.azurecr.io", &attempt("noisy")).await) })
        })
        .collect();
    sleep(SECOND).await;
    for _ in 0..20 {
        let asked = Instant::now();
        rig.ask("r.azurecr.io", &attempt("quiet")).await.ok().unwrap();
        assert!(asked.elapsed() <= 200 * MS, "its own call, and one place");
    }
    for caller in noisy {
        caller.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn u8_ten_thousand_at_once_stay_within_the_budget_and_go_by_what_expires_first() {
    const CALLERS: u64 = 10_000;
    const TENANTS: u64 = 100;
    let rig = Arc::new(Rig::new(|sent| token(80 * MS, &sent.host)));
    let (began, expiry) = (Instant::now(), |rank: u64| {
        let at: SystemTime = UNIX_EPOCH + Duration::from_secs(1_800_000_000 + rank);
        at
    });
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let rig = Arc::clone(&rig);
            spawn_detached(async move {
                // 7,919 is prime: every rank once, in no order.
                let rank = number * 7919 % CALLERS;
                let mut attempt = attempt(&format!("n{}", number % TENANTS));
                attempt.held_until = Some(expiry(rank));
                (rank, persist(&rig, "r.azurecr.io", &attempt).await)
            })
        })
        .collect();
    let mut served = Vec::new();
    for caller in callers {
        served.push(caller.await.unwrap());
    }
    let starts: Vec<_> = rig.transport.log().iter().map(|sent| sent.at).collect();
    assert_eq!(starts.len(), 10_000, "one call each");
    assert!(rig.transport.most_in_flight() <= 32);
    // A burst of 2,000 and 100 a second.
    for (window, most) in [(SECOND, 2100), (10 * SECOND, 3000), (MINUTE, 8000)] {
        let found = most_within(&starts, window);
        assert!(found <= most, "{found} in {window:?}");
    }
    assert!(began.elapsed() < 5 * MINUTE, "{:?}", began.elapsed());
    // Of those who were served without being sent away, none expires later than one who was.
    let (early, late): (Vec<_>, Vec<_>) = served.iter().partition(|(_, took)| *took < 5 * SECOND);
    let mean = |of: &[&(u64, Duration)]| of.iter().map(|(rank, _)| rank).sum::<u64>() / of.len() as u64;
    let (early, late): (Vec<_>, Vec<_>) = (early.iter().collect(), late.iter().collect());
    assert!(mean(&early) * 2 < mean(&late), "{} {}", mean(&early), mean(&late));
}
