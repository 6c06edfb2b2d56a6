//! One registry of ten asks for fewer requests: it gets none early, and the other nine notice nothing.

use std::time::Duration;

use azure_simulator::{Action, Fault, Operation, RetryAfter, Service};
use broker::request::Wish;
use proto::Reason;

use super::{
    rig::Rig,
    scene::{Ask, azure_with_owned},
};

const THROTTLED: &str = "r0.azurecr.io";

#[tokio::test(start_paused = true)]
async fn u1_one_of_ten_registries_throttles_for_a_minute_and_nine_notice_nothing() {
    let hosts: Vec<String> = (0..10).map(|n| format!("r{n}.azurecr.io")).collect();
    let registries: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let rig = Rig::new(azure_with_owned(1, &registries));
    let throttle = Action::Throttle {
        retry_after: Some(RetryAfter::Seconds(20)),
        countdown: false,
    };
    rig.add_fault(Fault::new(throttle).host(THROTTLED).named("throttle"));
    let (mut served, mut refused) = (0, 0);
    for second in 0..60 {
        for host in &registries {
            // A scope of its own each time: nothing is answered from memory.
            let ask = Ask {
                scope: format!("repository:team/app-{second}:pull"),
                ..Ask::broker_owned(0, host)
            };
            match rig.ask(&ask, &Wish::default()).await {
                Ok(_credential) => {
                    assert_ne!(*host, THROTTLED);
                    served += 1;
                }
                Err(error) => {
                    assert_eq!(
                        (*host, error.reason),
                        (THROTTLED, Reason::UpstreamThrottled),
                        "{error}"
                    );
                    assert!(
                        error
                            .retry_after
                            .is_some_and(|wait| wait <= Duration::from_secs(25))
                    );
                    refused += 1;
                }
            }
        }
        rig.pass(1).await;
    }
    assert_eq!((served, refused), (9 * 60, 60));
    let calls = rig.calls().host(THROTTLED);
    let gap = calls.clone().shortest_gap_after_throttle();
    assert!(gap.is_none_or(|gap| gap >= Duration::from_secs(20)), "{gap:?}");
    assert!(
        (2..=4).contains(&calls.count()),
        "{} calls",
        rig.calls().host(THROTTLED).count()
    );
}

#[tokio::test(start_paused = true)]
async fn u3_two_hundred_identities_at_once_stay_within_the_metadata_services_limits() {
    const IDENTITIES: usize = 200;
    let state = azure_with_owned(IDENTITIES, &["one.azurecr.io"]).with_latency_ms(100);
    let rig = Rig::new(state);
    let mut waiting: Vec<_> = (0..IDENTITIES)
        .map(|n| Ask::broker_owned(n, "one.azurecr.io"))
        .collect();
    // Whoever is turned away comes back when told to, as a syncer does.
    while !waiting.is_empty() {
        assert!(
            rig.clock.elapsed() < Duration::from_secs(300),
            "{} left",
            waiting.len()
        );
        let wish = Wish::default();
        let answers = futures::future::join_all(
            waiting
                .iter()
                .map(|ask| async { (ask.clone(), rig.ask(ask, &wish).await) }),
        )
        .await;
        waiting = answers
            .into_iter()
            .filter(|(_ask, answer)| answer.is_err())
            .map(|(ask, _answer)| ask)
            .collect();
        rig.pass(1).await;
    }
    let calls = rig.calls().of(Service::Imds, Operation::Token);
    assert!(
        calls.max_concurrency() <= 4,
        "{} in flight",
        calls.max_concurrency()
    );
    let mut starts: Vec<_> = calls
        .entries()
        .iter()
        .map(|call| call.at_sim.as_millisecond())
        .collect();
    starts.sort_unstable();
    let burst = starts
        .windows(11)
        .filter(|window| window[10] - window[0] < 1_000)
        .count();
    assert_eq!(burst, 0, "more than 10 in some second");
    assert_eq!(calls.status(429).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn u8_five_thousand_cold_keys_at_once_stay_within_the_budget_of_their_registry() {
    const KEYS: usize = 5_000;
    const TEAMS: usize = 50;
    let rig = Rig::new(azure_with_owned(1, &["one.azurecr.io"]).with_latency_ms(20));
    let mut waiting: Vec<_> = (0..KEYS)
        .map(|n| Ask {
            namespace: format!("team-{}", n % TEAMS),
            scope: format!("repository:team/app-{n}:pull"),
            ..Ask::broker_owned(0, "one.azurecr.io")
        })
        .collect();
    // Whoever finds no place is told when to come back, and is served then.
    while !waiting.is_empty() {
        assert!(
            rig.clock.elapsed() < Duration::from_secs(180),
            "{} left",
            waiting.len()
        );
        let wish = Wish::default();
        let asked = waiting
            .iter()
            .map(|ask| async { (ask.clone(), rig.ask(ask, &wish).await) });
        let answers = futures::future::join_all(asked).await;
        waiting = Vec::new();
        for (ask, answer) in answers {
            if let Err(error) = answer {
                assert_eq!(error.reason, Reason::Overloaded, "{error}");
                assert!(error.retry_after.is_some_and(|wait| !wait.is_zero()));
                waiting.push(ask);
            }
        }
        rig.pass(5).await;
    }
    let calls = rig.calls().of(Service::Acr, Operation::Token);
    assert_eq!(calls.count(), KEYS, "one call per key");
    assert!(
        calls.max_concurrency() <= 32,
        "{} in flight",
        calls.max_concurrency()
    );
    // 2,000 at once, then 100 in each second.
    let mut starts: Vec<_> = calls
        .entries()
        .iter()
        .map(|call| call.at_sim.as_second())
        .collect();
    starts.sort_unstable();
    for (n, second) in starts.iter().enumerate() {
        let since_s = usize::try_from(second - starts[0]).unwrap() + 1;
        assert!(n < 2_000 + 100 * since_s, "the {n}th after {since_s} s");
    }
}
