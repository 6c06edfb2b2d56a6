//! Who asked for fewer requests gets none before its time; nobody else notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use proto::Reason;
use tokio::time::{Instant, sleep};

use super::rig::{Rig, attempt, status, token};
use crate::azure::transport::{Stage, TransportError};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The first request to `host` is answered with a 429, everything else with a token.
fn throttled_once(host: &'static str, headers: &'static [(&'static str, &'static str)]) -> Arc<Rig> {
    let calls = AtomicU32::new(0);
    Arc::new(Rig::new(move |sent| {
        if sent.host == host && calls.fetch_add(1, Ordering::SeqCst) == 0 {
            status(429, headers)
        } else {
            token(20 * Duration::from_millis(1), &sent.host)
        }
    }))
}

#[tokio::test(start_paused = true)]
async fn u1_registry_that_asks_for_a_pause_gets_it_whole_and_others_notice_nothing() {
    let forms: [(&[(&str, &str)], u64); 4] = [
        (&[("retry-after", "37")], 37),
        (
            &[
                ("retry-after", "Sat, 21 Nov 2026 10:01:30 GMT"),
                ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
            ],
            90,
        ),
        (&[("retry-after", "99999")], 3600),
        (&[], 10),
    ];
    for (headers, pause_s) in forms {
        let rig = throttled_once("r0.azurecr.io", headers);
        let started = Instant::now();
        for _ in 0..pause_s + 20 {
            for number in 0..10 {
                let host = format!("r{number}.azurecr.io");
                let answer = rig.ask(&host, &attempt("a")).await;
                if number > 0 {
                    assert!(answer.is_ok(), "another registry is not touched");
                } else if let Err(error) = answer {
                    assert_eq!(error.reason, Reason::UpstreamThrottled);
                    assert!(!error.retry_after.unwrap().is_zero());
                }
            }
            sleep(SECOND).await;
        }
        let by_host = rig.transport.by_host();
        let sent = by_host.get("r0.azurecr.io").unwrap();
        let pause = Duration::from_secs(pause_s);
        let second = sent.get(1).copied().unwrap();
        // The pause starts when the answer comes, 50 ms after the request.
        assert!(
            second - started >= pause && second - started < pause + 2 * SECOND,
            "{headers:?}"
        );
        assert!(sent.len() > 5, "and then it is asked again");
    }
}

#[tokio::test(start_paused = true)]
async fn u1_end_of_a_pause_lets_one_request_through_before_the_rest() {
    let rig = throttled_once("r.azurecr.io", &[("retry-after", "30")]);
    let refused = rig.ask("r.azurecr.io", &attempt("a")).await.err().unwrap();
    assert!(
        !refused.is_remembered,
        "an answer of Azure's own is the key's to remember"
    );
    sleep(31 * SECOND).await;
    let answers = crowd(&rig, 50).await;
    assert_eq!(answers.iter().filter(|error| error.is_none()).count(), 1);
    for error in answers.into_iter().flatten() {
        assert_eq!(
            (error.reason, error.is_remembered),
            (Reason::UpstreamThrottled, true)
        );
    }
    let answers = crowd(&rig, 50).await;
    assert!(answers.iter().all(Option::is_none), "and then all");
}

/// So many at once; the error of each.
async fn crowd(rig: &Arc<Rig>, callers: usize) -> Vec<Option<crate::error::CredentialError>> {
    let callers: Vec<_> = (0..callers)
        .map(|number| {
            let rig = Arc::clone(rig);
            runtime::tasks::spawn_detached(async move {
                rig.ask("r.azurecr.io", &attempt(&format!("n{number}")))
                    .await
                    .err()
            })
        })
        .collect();
    let mut errors = Vec::new();
    for caller in callers {
        errors.push(caller.await.unwrap());
    }
    errors
}

#[tokio::test(start_paused = true)]
async fn u1_refused_callers_are_told_to_come_back_after_the_pause_and_not_all_at_once() {
    let rig = throttled_once("r.azurecr.io", &[("retry-after", "60")]);
    assert!(rig.ask("r.azurecr.io", &attempt("a")).await.is_err());
    let mut waits: Vec<_> = crowd(&rig, 100)
        .await
        .into_iter()
        .map(|error| error.unwrap().retry_after.unwrap())
        .collect();
    waits.sort();
    assert!(*waits.first().unwrap() >= MINUTE);
    assert!(*waits.last().unwrap() > *waits.first().unwrap() + 2 * SECOND);
    assert_eq!(rig.transport.log().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn u1_failure_that_names_a_time_is_a_pause_too() {
    let rig = Rig::new(|_| status(503, &[("retry-after", "20")]));
    let error = rig.ask("r.azurecr.io", &attempt("a")).await.err().unwrap();
    assert_eq!(error.reason, Reason::RegistryUnreachable);
    for _ in 0..19 {
        sleep(SECOND).await;
        let error = rig.ask("r.azurecr.io", &attempt("a")).await.err().unwrap();
        assert_eq!(error.reason, Reason::UpstreamThrottled);
    }
    assert_eq!(rig.transport.log().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn u4_dead_host_of_fifty_costs_the_others_nothing_and_gets_one_trial_at_a_time() {
    let rig = Arc::new(Rig::new(|sent| {
        if sent.host == "r0.azurecr.io" {
            super::rig::Reaction::Hang
        } else {
            token(50 * Duration::from_millis(1), &sent.host)
        }
    }));
    let started = Instant::now();
    let callers: Vec<_> = (0..50)
        .map(|number| {
            let rig = Arc::clone(&rig);
            runtime::tasks::spawn_detached(async move {
                let host = format!("r{number}.azurecr.io");
                let mut slowest = Duration::ZERO;
                let mut failures = 0;
                // The dead one is asked by many at once, the others once a second.
                while started.elapsed() < 2 * MINUTE {
                    let asked = Instant::now();
                    failures += u32::from(rig.ask(&host, &attempt(&format!("n{number}"))).await.is_err());
                    slowest = slowest.max(asked.elapsed());
                    sleep(SECOND).await;
                }
                (slowest, failures)
            })
        })
        .collect();
    let herd: Vec<_> = (0..200)
        .map(|number| {
            let rig = Arc::clone(&rig);
            runtime::tasks::spawn_detached(async move {
                while started.elapsed() < 2 * MINUTE {
                    let refused = rig.ask("r0.azurecr.io", &attempt(&format!("h{number}"))).await;
                    let error = refused.err().unwrap();
                    sleep(error.retry_after.unwrap_or(SECOND)).await;
                }
            })
        })
        .collect();
    for (number, caller) in callers.into_iter().enumerate() {
        let (slowest, failures) = caller.await.unwrap();
        if number > 0 {
            assert_eq!((slowest, failures), (50 * Duration::from_millis(1), 0));
        }
    }
    for caller in herd {
        caller.await.unwrap();
    }
    let by_host = rig.transport.by_host();
    let dead = by_host.get("r0.azurecr.io").unwrap();
    // Those of the first 15 s, and those that took their places until the fifth failure.
    let first = dead.iter().filter(|at| **at - started <= 15 * SECOND).count();
    assert!(first <= 32 + 4, "{first}");
    // Each trial hangs for its 15 s before the next may go.
    let trials: Vec<_> = dead.iter().skip(first).collect();
    assert!(
        trials.len() > 1 && trials.is_sorted_by(|one, next| **next - **one >= 15 * SECOND),
        "{trials:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn u4_open_circuit_says_what_the_last_failure_was() {
    let rig = Rig::new(|_| super::rig::Reaction::Fail(TransportError::Timeout(Stage::Connect)));
    let mut texts = Vec::new();
    for _ in 0..10 {
        let error = rig.ask("r.azurecr.io", &attempt("a")).await.err().unwrap();
        assert_eq!(error.reason, Reason::RegistryUnreachable);
        texts.push(error.message);
    }
    texts.dedup();
    assert_eq!(texts.len(), 1);
    assert_eq!(rig.transport.log().len(), 5);
    let metrics = rig.metrics();
    for line in [
        r#"acrpull_broker_upstream_open_circuits{upstream="acr"} 1"#,
        r#"acrpull_broker_upstream_withheld_total{upstream="acr_exchange",why="circuit"} 5"#,
        r#"acrpull_broker_upstream_requests_total{upstream="acr_exchange",code="none"} 5"#,
        r#"acrpull_broker_upstream_in_flight{upstream="acr_exchange"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn upstream_gauge_forgets_a_circuit_that_nobody_tries_any_more() {
    let rig = Rig::new(|sent| {
        if sent.host == "mistyped.azurecr.io" {
            super::rig::Reaction::Fail(TransportError::NoSuchName)
        } else {
            token(50 * Duration::from_millis(1), &sent.host)
        }
    });
    for _ in 0..5 {
        assert!(rig.ask("mistyped.azurecr.io", &attempt("a")).await.is_err());
    }
    for (minutes, open) in [(1, 1), (4, 0)] {
        sleep(minutes * MINUTE).await;
        rig.ask("r.azurecr.io", &attempt("a")).await.ok().unwrap();
        let line = format!(r#"acrpull_broker_upstream_open_circuits{{upstream="acr"}} {open}"#);
        assert!(rig.metrics().contains(&line), "{line}");
    }
}
