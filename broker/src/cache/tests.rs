//! One fetch for all who wait; what is remembered, what is handed out meanwhile. Over a clock that stands still.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::UNIX_EPOCH,
};

use prometheus_client::registry::Registry;
use runtime::clock::ManualClock;
use tokio::sync::{Barrier, Notify};

use super::*;
use crate::metrics::Metrics;

mod again;
mod bounds;
mod clusters;

type Cache = TokenCache<u32, &'static str>;

struct Rig {
    cache: Cache,
    clock: ManualClock,
    calls: Arc<AtomicU32>,
}

impl Rig {
    fn new() -> Self {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_000_000));
        let metrics = Metrics::register(&mut Registry::default()).cache("test");
        let bounds = Bounds {
            keys: 100,
            bytes: 1 << 20,
        };
        let cache = Cache::new(bounds, |value| value.len(), Arc::new(clock.clone()), metrics);
        Self {
            cache,
            clock,
            calls: Arc::default(),
        }
    }

    /// A token of 1,000 s that is renewed at 500.
    fn token(&self, value: &'static str) -> Token<&'static str> {
        let now = self.clock.moment();
        Token {
            value,
            lifetime: Lifetime::new(now, now.wall + Duration::from_secs(1000), 0.0),
        }
    }

    async fn ask(
        &self,
        need: Need,
        answer: Result<Token<&'static str>, CredentialError>,
    ) -> Result<Served<&'static str>, CredentialError> {
        let calls = Arc::clone(&self.calls);
        self.cache
            .get(
                &1,
                &tenant("web"),
                |_current| need,
                |_departure| async move {
                    calls.fetch_add(1, Ordering::SeqCst);
                    answer
                },
            )
            .await
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

fn tenant(namespace: &str) -> Tenant {
    tenant_of("cluster", namespace)
}

fn tenant_of(cluster: &str, namespace: &str) -> Tenant {
    Tenant {
        cluster: cluster.into(),
        namespace: namespace.into(),
    }
}

fn down() -> CredentialError {
    CredentialError::titled(Reason::RegistryUnauthorized)
}

/// Starts `n` callers at once, each with a fetch that counts and waits for `go`.
async fn crowd(
    rig: &Rig,
    n: usize,
    answer: Result<Token<&'static str>, CredentialError>,
) -> Vec<Result<&'static str, CredentialError>> {
    let (barrier, go) = (Arc::new(Barrier::new(n + 1)), Arc::new(Notify::new()));
    let callers: Vec<_> = (0..n)
        .map(|_| {
            let (cache, barrier, go) = (rig.cache.clone(), Arc::clone(&barrier), Arc::clone(&go));
            let (calls, answer) = (Arc::clone(&rig.calls), answer.clone());
            spawn_detached(async move {
                barrier.wait().await;
                let fetch = |_departure| async move {
                    calls.fetch_add(1, Ordering::SeqCst);
                    go.notified().await;
                    answer
                };
                cache
                    .get(&1, &tenant("web"), |_current| Need::default(), fetch)
                    .await
                    .map(|served| served.token.value)
            })
        })
        .collect();
    barrier.wait().await;
    go.notify_one();
    let mut results = Vec::new();
    for caller in callers {
        results.push(caller.await.unwrap());
    }
    results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c1_a_thousand_misses_cost_one_call_and_share_the_token() {
    let rig = Rig::new();
    let results = crowd(&rig, 1000, Ok(rig.token("t"))).await;
    assert!(results.iter().all(|result| *result == Ok("t")));
    assert_eq!(rig.calls(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c1_a_thousand_misses_cost_one_call_and_share_the_failure() {
    let rig = Rig::new();
    let results = crowd(&rig, 1000, Err(down())).await;
    assert!(
        results
            .iter()
            .all(|result| result.as_ref().unwrap_err().reason == Reason::RegistryUnauthorized)
    );
    assert_eq!(rig.calls(), 1);
}

#[tokio::test]
async fn c1_a_fetch_that_panics_fails_its_waiters_and_is_remembered() {
    let rig = Rig::new();
    let fetch = |_departure| async { panic!("on purpose") };
    let error = rig
        .cache
        .get(&1, &tenant("web"), |_current| Need::default(), fetch)
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason, Reason::Internal);
    let next = rig.ask(Need::default(), Ok(rig.token("t"))).await.err().unwrap();
    assert_eq!((next.reason, rig.calls()), (Reason::Internal, 0));
    rig.clock.advance(Duration::from_secs(2));
    assert_eq!(
        rig.ask(Need::default(), Ok(rig.token("t")))
            .await
            .unwrap()
            .token
            .value,
        "t"
    );
}

#[tokio::test]
async fn c2_a_caller_that_goes_away_changes_nothing_for_the_others() {
    let rig = Rig::new();
    let go = Arc::new(Notify::new());
    let (cache, calls, gate, token) = (
        rig.cache.clone(),
        Arc::clone(&rig.calls),
        Arc::clone(&go),
        rig.token("t"),
    );
    let leader = spawn_detached(async move {
        let fetch = |_departure| async move {
            calls.fetch_add(1, Ordering::SeqCst);
            gate.notified().await;
            Ok(token)
        };
        cache
            .get(&1, &tenant("web"), |_current| Need::default(), fetch)
            .await
            .map(|served| served.token.value)
    });
    while rig.calls() == 0 {
        tokio::task::yield_now().await;
    }
    leader.abort();
    let cache = rig.cache.clone();
    let never = |_departure| async { Err(CredentialError::titled(Reason::Internal)) };
    let follower = spawn_detached(async move {
        cache
            .get(&1, &tenant("web"), |_current| Need::default(), never)
            .await
            .map(|served| served.token.value)
    });
    tokio::task::yield_now().await;
    go.notify_one();
    assert_eq!(follower.await.unwrap(), Ok("t"));
    assert_eq!(rig.calls(), 1);
}

#[tokio::test]
async fn cache_failure_is_remembered_for_its_time_and_no_longer() {
    let rig = Rig::new();
    assert_eq!(
        rig.ask(Need::default(), Err(down()))
            .await
            .err()
            .unwrap()
            .retry_after,
        Some(Duration::from_secs(15))
    );
    rig.clock.advance(Duration::from_secs(14));
    let error = rig.ask(Need::default(), Ok(rig.token("t"))).await.err().unwrap();
    assert_eq!(
        (error.retry_after, rig.calls()),
        (Some(Duration::from_secs(1)), 1)
    );
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(
        rig.ask(Need::default(), Ok(rig.token("t")))
            .await
            .unwrap()
            .token
            .value,
        "t"
    );
    assert_eq!(rig.calls(), 2);
}

#[tokio::test]
async fn cache_failure_of_a_lower_cache_is_not_remembered_twice() {
    let rig = Rig::new();
    let below = CredentialError {
        is_remembered: true,
        ..down()
    };
    assert!(rig.ask(Need::default(), Err(below)).await.is_err());
    assert_eq!(
        rig.ask(Need::default(), Ok(rig.token("t")))
            .await
            .unwrap()
            .token
            .value,
        "t"
    );
}

#[tokio::test]
async fn s3_old_token_is_handed_out_while_it_cannot_be_renewed() {
    let rig = Rig::new();
    rig.ask(Need::default(), Ok(rig.token("old"))).await.unwrap();
    rig.clock.advance(Duration::from_secs(700));
    let served = rig.ask(Need::default(), Err(down())).await.unwrap();
    assert!(served.degraded && served.token.value == "old");
    assert!(served.refresh_at > rig.clock.now());
    rig.clock.advance(Duration::from_secs(241));
    assert!(
        rig.ask(Need::default(), Err(down())).await.is_err(),
        "59 s left are too few"
    );
}

#[tokio::test]
async fn s3_token_that_expires_earlier_does_not_replace() {
    let rig = Rig::new();
    rig.ask(Need::default(), Ok(rig.token("old"))).await.unwrap();
    let sooner = rig.token("sooner");
    rig.clock.advance(Duration::from_secs(600));
    let holder = Need {
        has_current: true,
        ..Need::default()
    };
    let served = rig.ask(holder, Ok(sooner)).await.unwrap();
    assert_eq!(served.token.value, "old");
    assert!(
        served.refresh_at >= rig.clock.now() + Duration::from_secs(60),
        "no hot loop"
    );
    assert_eq!(rig.calls(), 2);
}

#[tokio::test]
async fn cache_past_the_refresh_point_serves_and_renews_once() {
    let rig = Rig::new();
    rig.ask(Need::default(), Ok(rig.token("old"))).await.unwrap();
    rig.clock.advance(Duration::from_secs(550));
    for _ in 0..5 {
        assert_eq!(
            rig.ask(Need::default(), Ok(rig.token("new")))
                .await
                .unwrap()
                .token
                .value,
            "old"
        );
    }
    while rig.calls() < 2 {
        tokio::task::yield_now().await;
    }
    let served = rig.ask(Need::default(), Err(down())).await.unwrap();
    assert_eq!((served.token.value, rig.calls()), ("new", 2));
}

#[tokio::test]
async fn cache_rejected_token_is_replaced_even_by_one_that_expires_earlier() {
    let rig = Rig::new();
    rig.ask(Need::default(), Ok(rig.token("dead"))).await.unwrap();
    let other = rig.token("alive");
    rig.clock.advance(Duration::from_secs(60));
    let rejected = Need {
        rejected_current: true,
        ..Need::default()
    };
    assert_eq!(rig.ask(rejected, Ok(other)).await.unwrap().token.value, "alive");
}
