//! What a cache lets go of, what it refuses, and what a fetch that hangs leaves alone.

use futures::FutureExt as _;

use super::*;

/// A value that tells when the last copy of it is gone.
type Watched = TokenCache<u32, Arc<&'static str>>;

fn watched(bounds: Bounds) -> (Watched, ManualClock) {
    let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_000_000));
    let metrics = Metrics::register(&mut Registry::default()).cache("test");
    let cache = Watched::new(bounds, |_value| 100, Arc::new(clock.clone()), metrics);
    (cache, clock)
}

const BOUNDS: Bounds = Bounds {
    keys: 100,
    bytes: 1 << 20,
};

async fn put(cache: &Watched, clock: &ManualClock, key: u32, holder: &str) -> Option<Arc<&'static str>> {
    let now = clock.moment();
    let fetch = |_departure| async move {
        Ok(Token {
            value: Arc::new("token"),
            lifetime: Lifetime::new(now, now.wall + Duration::from_secs(1000), 0.0),
        })
    };
    let served = cache
        .get(&key, &tenant(holder), |_current| Need::default(), fetch)
        .await;
    served.ok().map(|served| Arc::clone(&served.token.value))
}

#[tokio::test]
async fn u7_key_that_nobody_asks_for_is_dropped_after_two_refresh_periods() {
    let (cache, clock) = watched(BOUNDS);
    let token = Arc::downgrade(&put(&cache, &clock, 1, "web").await.unwrap());
    // Refreshed at 500 s: asked for now and then, it stays; 1,000 s after the last time it goes.
    clock.advance(Duration::from_secs(400));
    assert!(put(&cache, &clock, 1, "web").await.is_some());
    clock.advance(Duration::from_secs(500));
    cache.maintain();
    assert!(cache.inspect(&1).token.is_some());
    clock.advance(Duration::from_secs(501));
    cache.maintain();
    assert_eq!(cache.0.store.len(), 0);
    assert!(token.upgrade().is_none(), "the last copy is gone, so it is wiped");
}

#[tokio::test]
async fn u7_key_that_only_fails_is_forgotten_after_half_an_hour() {
    let rig = Rig::new();
    assert!(rig.ask(Need::default(), Err(down())).await.is_err());
    rig.clock.advance(Duration::from_secs(30 * 60));
    rig.cache.maintain();
    assert!(rig.cache.inspect(&1).failure.is_some());
    rig.clock.advance(Duration::from_secs(1));
    rig.cache.maintain();
    assert!(rig.cache.inspect(&1).failure.is_none());
}

#[tokio::test]
async fn cache_holds_no_more_keys_and_bytes_than_it_may() {
    for bounds in [
        BOUNDS,
        Bounds {
            keys: 1_000_000,
            bytes: 100 * (1024 + 100),
        },
    ] {
        let (cache, clock) = watched(bounds);
        let first = Arc::downgrade(&put(&cache, &clock, 0, "first").await.unwrap());
        for key in 1..500 {
            put(&cache, &clock, key, &format!("ns-{key}")).await.unwrap();
        }
        cache.maintain();
        assert!(
            (90..=100).contains(&cache.0.store.len()),
            "{}",
            cache.0.store.len()
        );
        assert!(first.upgrade().is_none(), "what was evicted is gone");
        assert!(cache.inspect(&499).token.is_some(), "the newest stays");
    }
}

#[tokio::test]
async fn u6_tenant_holds_at_most_a_fifth_of_the_keys() {
    let (cache, clock) = watched(BOUNDS);
    let mut stored = 0;
    for key in 0..50 {
        stored += u32::from(put(&cache, &clock, key, "noisy").await.is_some());
    }
    assert_eq!(stored, 20);
    assert!(
        put(&cache, &clock, 19, "noisy").await.is_some(),
        "what it has it keeps"
    );
    assert!(put(&cache, &clock, 1000, "quiet").await.is_some());
    let refused = cache
        .get(
            &51,
            &tenant("noisy"),
            |_current| Need::default(),
            |_departure| async { Err(down()) },
        )
        .await
        .err()
        .unwrap();
    assert_eq!(refused.reason, Reason::Overloaded);
    assert!(refused.retry_after.is_some(), "says when to come back");
    assert_eq!(cache.invalidate(|key| *key < 10), 10);
    assert!(
        put(&cache, &clock, 60, "noisy").await.is_some(),
        "there is room again"
    );
}

#[tokio::test]
async fn u4_one_fetch_too_many_is_refused_with_a_time_to_come_back() {
    let (cache, _clock) = watched(BOUNDS);
    let ask = |key: u32| {
        let hang = |_departure| std::future::pending();
        // Ten namespaces of two clusters, each within its share.
        let tenant = tenant_of(&format!("cluster-{}", key % 2), &format!("team-{}", key % 10));
        cache
            .get(&key, &tenant, |_current| Need::default(), hang)
            .now_or_never()
    };
    let most = u32::try_from(quotas::MAX_FLIGHTS).unwrap();
    assert!((0..most).all(|key| ask(key).is_none()), "all of them wait");
    let refused = ask(most).unwrap().err().unwrap();
    assert_eq!(refused.reason, Reason::Overloaded);
    assert!(refused.retry_after.is_some());
}

#[tokio::test]
async fn s2_hit_waits_for_nothing_while_its_renewal_hangs() {
    let rig = Rig::new();
    rig.ask(Need::default(), Ok(rig.token("old"))).await.unwrap();
    rig.clock.advance(Duration::from_secs(550));
    let hang = |_departure| std::future::pending();
    let renewing = rig
        .cache
        .get(&1, &tenant("web"), |_current| Need::default(), hang)
        .now_or_never();
    assert_eq!(renewing.unwrap().unwrap().token.value, "old");
    for _ in 0..100 {
        let hit = rig
            .cache
            .get(&1, &tenant("web"), |_current| Need::default(), hang)
            .now_or_never();
        assert_eq!(hit.expect("answered without waiting").unwrap().token.value, "old");
    }
}

#[tokio::test(start_paused = true)]
async fn s2_holder_waits_for_a_renewal_that_hangs_only_so_long() {
    let rig = Rig::new();
    rig.ask(Need::default(), Ok(rig.token("old"))).await.unwrap();
    rig.clock.advance(Duration::from_secs(550));
    let holder = Need {
        has_current: true,
        ..Need::default()
    };
    let started = tokio::time::Instant::now();
    let hang = |_departure| std::future::pending();
    let served = rig
        .cache
        .get(&1, &tenant("web"), |_current| holder, hang)
        .await
        .unwrap();
    assert!(served.degraded && served.token.value == "old");
    assert_eq!(started.elapsed(), PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn s4_holder_of_a_token_that_will_not_do_after_the_wait_hears_what_is_wrong() {
    let rig = Rig::new();
    rig.ask(Need::default(), Ok(rig.token("old"))).await.unwrap();
    // 62 s are left of its 1000: good for now, and not after the wait.
    rig.clock.advance(Duration::from_secs(938));
    let holder = Need {
        has_current: true,
        ..Need::default()
    };
    let clock = rig.clock.clone();
    let fails = |_departure| async move {
        tokio::time::sleep(2 * PATIENCE).await;
        clock.advance(2 * PATIENCE);
        Err(down())
    };
    let refused = rig.cache.get(&1, &tenant("web"), |_current| holder, fails).await;
    assert_eq!(refused.err().unwrap().reason, down().reason);
}

#[tokio::test]
async fn c3_keys_that_hang_leave_hits_and_misses_of_others_alone() {
    let rig = Rig::new();
    rig.ask(Need::default(), Ok(rig.token("t"))).await.unwrap();
    for stuck in 100..200 {
        let hang = |_departure| std::future::pending();
        let waiting = rig
            .cache
            .get(&stuck, &tenant("web"), |_current| Need::default(), hang)
            .now_or_never();
        // The quota of this small cache turns the later ones away; the others hang.
        assert!(waiting.is_none_or(|refused| refused.is_err()));
    }
    let hit = rig.ask(Need::default(), Err(down())).now_or_never();
    assert_eq!(hit.expect("a hit waits for nothing").unwrap().token.value, "t");
    let fetch = |_departure| async { Err(down()) };
    let miss = rig
        .cache
        .get(&2, &tenant("other"), |_current| Need::default(), fetch)
        .await;
    assert_eq!(miss.err().unwrap().reason, Reason::RegistryUnauthorized);
}

#[tokio::test(start_paused = true)]
async fn c1_fetch_that_never_ends_fails_all_its_waiters_once() {
    let rig = Rig::new();
    let ask = async || {
        let calls = Arc::clone(&rig.calls);
        let fetch = |_departure| async move {
            calls.fetch_add(1, Ordering::SeqCst);
            std::future::pending().await
        };
        rig.cache
            .get(&1, &tenant("web"), |_current| Need::default(), fetch)
            .await
    };
    let answers = futures::future::join_all((0..1000).map(|_| ask())).await;
    assert!(answers.iter().all(|answer| {
        answer
            .as_ref()
            .is_err_and(|error| error.reason == Reason::DeadlineExceeded)
    }));
    assert_eq!(rig.calls(), 1);
    assert_eq!(rig.cache.0.flights.len(), 0);
}

#[tokio::test]
async fn c5_a_thousand_reports_of_a_rejected_token_cost_one_call_a_minute() {
    let rig = Rig::new();
    rig.ask(Need::default(), Ok(rig.token("dead"))).await.unwrap();
    let rejected = Need {
        rejected_current: true,
        ..Need::default()
    };
    rig.clock.advance(Duration::from_secs(60));
    for second in 0..1000_u32 {
        // The registry refuses the new one as well, and each that comes after.
        rig.ask(rejected, Ok(rig.token("dead too"))).await.unwrap();
        rig.clock.advance(Duration::from_millis(100));
        let minutes = second / 600 + 1;
        assert!(rig.calls() <= 1 + minutes, "{} calls", rig.calls());
    }
}

#[tokio::test]
async fn c5_force_that_brings_nothing_newer_is_not_repeated_at_once() {
    let rig = Rig::new();
    let same = rig.token("same");
    rig.ask(Need::default(), Ok(same.clone())).await.unwrap();
    rig.clock.advance(Duration::from_secs(100));
    let force = Need {
        force: true,
        ..Need::default()
    };
    for _ in 0..50 {
        assert_eq!(
            rig.ask(force, Ok(same.clone())).await.unwrap().token.value,
            "same"
        );
        rig.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(rig.calls(), 2);
}

#[tokio::test]
async fn cache_failure_of_a_lower_cache_quiets_renewals_in_the_background() {
    let rig = Rig::new();
    rig.ask(Need::default(), Ok(rig.token("old"))).await.unwrap();
    rig.clock.advance(Duration::from_secs(550));
    let below = CredentialError {
        is_remembered: true,
        ..down().retry_after(Duration::from_secs(30))
    };
    for second in 0..60 {
        let served = rig.ask(Need::default(), Err(below.clone())).await.unwrap();
        assert_eq!(served.token.value, "old");
        tokio::task::yield_now().await;
        assert_eq!(rig.calls(), 2 + second / 30, "one attempt in 30 s");
        rig.clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn c2_a_caller_that_goes_away_at_any_point_changes_nothing_for_the_others() {
    for polls in 0..8 {
        let rig = Rig::new();
        let go = Arc::new(Notify::new());
        let fetch = |token: Token<&'static str>| {
            let (calls, go) = (Arc::clone(&rig.calls), Arc::clone(&go));
            |_departure| async move {
                calls.fetch_add(1, Ordering::SeqCst);
                go.notified().await;
                Ok(token)
            }
        };
        let tenant = tenant("web");
        let need = |_current: Option<&Token<&'static str>>| Need::default();
        let mut leaver = Box::pin(rig.cache.get(&1, &tenant, need, fetch(rig.token("t"))));
        for _ in 0..polls {
            assert!(futures::poll!(&mut leaver).is_pending());
            tokio::task::yield_now().await;
        }
        drop(leaver);
        let mut follower = Box::pin(rig.cache.get(&1, &tenant, need, fetch(rig.token("t"))));
        assert!(futures::poll!(&mut follower).is_pending());
        tokio::task::yield_now().await;
        go.notify_one();
        assert_eq!(
            follower.await.unwrap().token.value,
            "t",
            "left after {polls} polls"
        );
        assert_eq!(rig.calls(), 1, "left after {polls} polls");
    }
}
