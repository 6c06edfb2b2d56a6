//! The serving rule and the schedule of remembered failures, in numbers.

use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn at(n: u64) -> SystemTime {
    UNIX_EPOCH + seconds(1_000_000 + n)
}

/// A token of 1,000 s received at 0, to be renewed at 600.
fn token() -> Lifetime {
    Lifetime {
        received_at: at(0),
        expires_at: at(1000),
        refresh_at: at(600),
    }
}

fn blocked_until(n: u64) -> Negative {
    Negative {
        class: RetryClass::Waiting,
        failures: 1,
        first_failed_at: at(0),
        retry_at: at(n),
        forced_at: None,
    }
}

#[test]
fn decide_follows_the_life_of_a_token() {
    let plain = Need::default();
    let holder = Need {
        has_current: true,
        ..plain
    };
    for (now, need, expected) in [
        (0, plain, Decision::Serve),
        (599, holder, Decision::Serve),
        (600, plain, Decision::ServeAndRefresh),
        // The refresh handshake: who has this token already waits for a newer one.
        (600, holder, Decision::Fetch),
        (669, plain, Decision::ServeAndRefresh),
        (671, plain, Decision::Fetch),
        (941, plain, Decision::Fetch),
        (1001, plain, Decision::Fetch),
    ] {
        assert_eq!(decide(Some(&token()), None, &need, at(now)), expected, "at {now}");
    }
    assert_eq!(decide(None, None, &plain, at(0)), Decision::Fetch);
}

#[test]
fn decide_while_a_failure_is_remembered_asks_nobody() {
    let plain = Need::default();
    let holder = Need {
        has_current: true,
        ..plain
    };
    let blocked = blocked_until(800);
    assert_eq!(decide(None, Some(&blocked), &plain, at(10)), Decision::Remembered);
    assert_eq!(
        decide(Some(&token()), Some(&blocked), &plain, at(10)),
        Decision::Serve
    );
    assert_eq!(
        decide(Some(&token()), Some(&blocked), &plain, at(610)),
        Decision::Serve
    );
    assert_eq!(
        decide(Some(&token()), Some(&blocked), &holder, at(610)),
        Decision::Remembered
    );
    assert_eq!(
        decide(Some(&token()), Some(&blocked), &plain, at(700)),
        Decision::Remembered
    );
    assert_eq!(decide(None, Some(&blocked), &plain, at(800)), Decision::Fetch);
}

#[test]
fn decide_force_passes_a_remembered_failure_once_a_minute() {
    let force = Need {
        force: true,
        ..Need::default()
    };
    let blocked = blocked_until(800);
    assert_eq!(decide(None, Some(&blocked), &force, at(10)), Decision::Fetch);
    let just_forced = Negative {
        forced_at: Some(at(10)),
        ..blocked
    };
    assert_eq!(
        decide(None, Some(&just_forced), &force, at(69)),
        Decision::Remembered
    );
    assert_eq!(decide(None, Some(&just_forced), &force, at(70)), Decision::Fetch);
}

#[test]
fn decide_a_rejected_token_is_renewed_unless_it_is_young() {
    let rejected = Need {
        rejected_current: true,
        ..Need::default()
    };
    assert_eq!(decide(Some(&token()), None, &rejected, at(59)), Decision::Serve);
    assert_eq!(decide(Some(&token()), None, &rejected, at(60)), Decision::Fetch);
}

#[test]
fn satisfies_clamps_what_a_caller_may_ask_for() {
    let token = token();
    // Half of the life at most: who asks for more would renew on every request.
    assert!(token.satisfies(Some(seconds(900)), at(500)));
    assert!(!token.satisfies(Some(seconds(900)), at(501)));
    // A young token satisfies anything.
    assert!(
        Lifetime {
            expires_at: at(70),
            ..token
        }
        .satisfies(Some(seconds(900)), at(5))
    );
    // Nothing under the floor is ever handed out.
    assert!(!token.satisfies(Some(seconds(0)), at(941)));
}

#[test]
fn after_failure_waiting_heals_within_a_minute_first_and_is_rare_later() {
    let calls = call_times(RetryClass::Waiting);
    assert_eq!(&calls[..5], [0, 15, 45, 105, 165]);
    // A late grant in the first quarter of an hour is noticed within a minute ...
    assert!(
        calls
            .windows(2)
            .filter(|pair| pair[0] < 900)
            .all(|pair| pair[1] - pair[0] <= 60)
    );
    // ... and later within fifteen; and a hopeless one stays cheap (guarantee U5).
    assert!(calls.windows(2).all(|pair| pair[1] - pair[0] <= 900));
    assert!(
        calls.iter().filter(|call| **call < 3600).count() <= 25,
        "{calls:?}"
    );
    assert!(calls.iter().filter(|call| **call < 60).count() <= 4);
}

#[test]
fn after_failure_permanent_doubles_to_a_quarter_of_an_hour() {
    let calls = call_times(RetryClass::Permanent);
    assert_eq!(&calls[..6], [0, 30, 90, 210, 450, 930]);
    assert!(
        calls.iter().filter(|call| **call < 3600).count() <= 8,
        "{calls:?}"
    );
}

#[test]
fn after_failure_throttled_waits_as_told_up_to_an_hour() {
    let wait = |told| {
        let negative = after_failure(None, RetryClass::Throttled, told, false, at(0), 0.5);
        negative.retry_at.duration_since(at(0)).unwrap()
    };
    assert_eq!(wait(Some(seconds(7))), seconds(7));
    assert_eq!(wait(Some(seconds(99_999))), seconds(3600));
    assert_eq!(wait(None), seconds(60));
}

#[test]
fn after_failure_another_class_begins_a_new_row() {
    let mut row = after_failure(None, RetryClass::Transient, None, false, at(0), 0.5);
    for _ in 0..10 {
        row = after_failure(Some(&row), RetryClass::Transient, None, false, row.retry_at, 0.5);
    }
    let other = after_failure(Some(&row), RetryClass::Permanent, None, false, row.retry_at, 0.5);
    assert_eq!(other.retry_at.duration_since(row.retry_at).unwrap(), seconds(30));
    let much_later = other.retry_at + seconds(3600);
    let again = after_failure(Some(&other), RetryClass::Permanent, None, false, much_later, 0.5);
    assert_eq!((again.failures, again.first_failed_at), (1, much_later));
}

#[test]
fn after_failure_transient_waits_as_told_too() {
    let negative = after_failure(None, RetryClass::Transient, Some(seconds(120)), false, at(0), 0.5);
    assert_eq!(negative.retry_at, at(120));
}

#[test]
fn s7_clock_set_back_blocks_nobody_and_makes_nothing_young() {
    let token = token();
    let before_receipt = token.received_at - seconds(3600);
    let rejected = Need {
        rejected_current: true,
        ..Need::default()
    };
    assert_eq!(
        decide(Some(&token), None, &rejected, before_receipt),
        Decision::Fetch
    );
    assert_eq!(
        decide(
            None,
            Some(&blocked_until(800)),
            &Need::default(),
            at(0) - seconds(7200)
        ),
        Decision::Fetch
    );
}

/// When Azure is asked, in seconds, by somebody who asks the moment it is allowed, for two hours.
fn call_times(class: RetryClass) -> Vec<u64> {
    let (mut calls, mut negative, mut now) = (Vec::new(), None, at(0));
    while now < at(7200) {
        calls.push(now.duration_since(at(0)).unwrap().as_secs());
        let after = after_failure(negative.as_ref(), class, None, false, now, 0.5);
        now = after.retry_at;
        negative = Some(after);
    }
    calls
}

proptest! {
    #[test]
    fn s1_what_is_served_without_asking_has_a_third_of_its_life_left_or_is_young(
        total in 61_u64..90_000, age in 0_u64..90_000, chance in 0.0_f64..1.0,
    ) {
        let token = Lifetime::new(at(0), at(total), chance);
        let now = at(age);
        prop_assert!(token.refresh_at >= at(total / 2) && token.refresh_at <= at(total * 65 / 100 + 1));
        if matches!(decide(Some(&token), None, &Need::default(), now), Decision::Serve | Decision::ServeAndRefresh) {
            prop_assert!(token.remaining(now) >= FLOOR);
            prop_assert!(age < 60 || token.remaining(now).as_secs_f64() >= 0.33 * Duration::from_secs(total).as_secs_f64());
        }
    }

    #[test]
    fn after_failure_never_asks_again_at_once(failures in 1_u32..100, chance in 0.0_f64..1.0) {
        for class in [RetryClass::Waiting, RetryClass::Permanent, RetryClass::Throttled, RetryClass::Transient] {
            let before = Negative { class, failures, first_failed_at: at(0), retry_at: at(0), forced_at: None };
            let after = after_failure(Some(&before), class, None, false, at(u64::from(failures) * 10), chance);
            let wait = after.retry_at.duration_since(at(u64::from(failures) * 10)).unwrap();
            prop_assert!(wait >= Duration::from_millis(250) && wait <= Duration::from_secs(900), "{class:?} {wait:?}");
        }
    }
}
