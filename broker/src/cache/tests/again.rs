//! When a caller is told to come back, and what keeps Azure from being asked meanwhile.

use super::*;

const HOLDER: Need = Need {
    min_remaining: None,
    has_current: true,
    rejected_current: false,
    force: false,
};

fn expiry(rig: &Rig, after_s: u64) -> SystemTime {
    rig.clock.now() + Duration::from_secs(after_s)
}

#[tokio::test]
async fn s4_who_holds_what_cannot_be_renewed_comes_back_before_it_expires() {
    let rig = Rig::new();
    rig.ask(HOLDER, Ok(rig.token("old"))).await.unwrap();
    rig.clock.advance(Duration::from_secs(700));
    let throttled = CredentialError::titled(Reason::UpstreamThrottled).retry_after(Duration::from_secs(3600));
    for _ in 0..2 {
        let served = rig.ask(HOLDER, Err(throttled.clone())).await.unwrap();
        assert!(served.degraded);
        assert_eq!(served.refresh_at, expiry(&rig, 240), "a minute before its end");
    }
    assert_eq!(rig.calls(), 2);
}

#[tokio::test]
async fn s4_who_holds_another_token_is_told_when_azure_may_be_asked_again() {
    let rig = Rig::new();
    rig.ask(HOLDER, Ok(rig.token("old"))).await.unwrap();
    rig.clock.advance(Duration::from_secs(550));
    assert!(rig.ask(HOLDER, Err(down())).await.unwrap().degraded);
    rig.clock.advance(Duration::from_secs(15));
    assert!(rig.ask(HOLDER, Err(down())).await.unwrap().degraded);
    // Remembered for 30 s from here.
    let other = rig.ask(Need::default(), Err(down())).await.unwrap();
    assert!(!other.degraded, "more than a third of it is left");
    assert_eq!(other.refresh_at, expiry(&rig, 30));
    assert_eq!(rig.calls(), 3);
}

#[tokio::test]
async fn c4_token_that_azure_does_not_renew_is_not_asked_for_with_every_request() {
    let rig = Rig::new();
    let same = rig.token("same");
    rig.ask(HOLDER, Ok(same.clone())).await.unwrap();
    // In the last third of its life, where every request needs a newer one: a try a minute, or a twentieth of its life.
    rig.clock.advance(Duration::from_secs(700));
    for _ in 0..180 {
        let served = rig.ask(HOLDER, Ok(same.clone())).await.unwrap();
        assert!(served.degraded && served.token.value == "same");
        rig.clock.advance(Duration::from_secs(1));
    }
    assert!((3..=5).contains(&rig.calls()), "{} calls", rig.calls());
}

#[tokio::test]
async fn c5_report_that_comes_too_soon_is_told_to_come_back() {
    let rig = Rig::new();
    rig.ask(Need::default(), Ok(rig.token("dead"))).await.unwrap();
    rig.clock.advance(Duration::from_secs(20));
    let rejected = Need {
        rejected_current: true,
        ..Need::default()
    };
    let served = rig.ask(rejected, Ok(rig.token("alive"))).await.unwrap();
    assert!(served.degraded && served.token.value == "dead");
    assert_eq!(served.refresh_at, expiry(&rig, 60));
    rig.clock.advance(Duration::from_secs(60));
    assert_eq!(
        rig.ask(rejected, Ok(rig.token("alive")))
            .await
            .unwrap()
            .token
            .value,
        "alive"
    );
}

#[tokio::test]
async fn u6_tenant_has_at_most_a_fifth_of_the_fetches() {
    let rig = Rig::new();
    let bounds = Bounds {
        keys: 1_000_000,
        bytes: 1 << 40,
    };
    let metrics = Metrics::register(&mut Registry::default()).cache("test");
    let cache = Cache::new(bounds, |value| value.len(), Arc::new(rig.clock.clone()), metrics);
    let ask = |key, holder: &str| {
        use futures::FutureExt as _;
        cache
            .get(
                &key,
                &tenant(holder),
                |_current| Need::default(),
                |_departure| std::future::pending(),
            )
            .now_or_never()
    };
    let share = u32::try_from(quotas::MAX_FLIGHTS_PER_NAMESPACE).unwrap();
    for key in 0..share {
        assert!(ask(key, "noisy").is_none(), "it waits");
    }
    let refused = ask(share, "noisy").unwrap().err().unwrap();
    assert_eq!(refused.reason, Reason::Overloaded);
    // Nothing was sent, so nothing is remembered of the key; and the hint is there, spread.
    assert!(refused.is_remembered);
    let hint = refused.retry_after.unwrap();
    assert!(hint >= Duration::from_secs(1) && hint <= Duration::from_secs(5));
    assert!(cache.inspect(&share).failure.is_none());
    assert!(ask(share + 1, "quiet").is_none(), "others are let in");
}

#[tokio::test]
async fn cache_text_of_a_failure_stays_that_of_its_key_while_nothing_is_sent() {
    let rig = Rig::new();
    let own = CredentialError::new(Reason::UpstreamMalformed, "holds no token");
    assert_eq!(
        rig.ask(Need::default(), Err(own)).await.err().unwrap().message,
        "holds no token"
    );
    rig.clock.advance(Duration::from_secs(2));
    let withheld = |reason, text: &'static str| CredentialError {
        is_remembered: true,
        ..CredentialError::new(reason, text).retry_after(Duration::from_secs(7))
    };
    let of_the_host = withheld(Reason::UpstreamMalformed, "is not a token answer");
    let error = rig.ask(Need::default(), Err(of_the_host)).await.err().unwrap();
    assert_eq!(error.message, "holds no token");
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    let other = withheld(Reason::UpstreamThrottled, "asks for fewer calls");
    let error = rig.ask(Need::default(), Err(other)).await.err().unwrap();
    assert_eq!(error.reason, Reason::UpstreamThrottled, "another reason is news");
}
