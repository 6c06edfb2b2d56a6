//! How often a key that fails is tried, in numbers.

use proptest::prelude::*;

use super::*;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn first(class: RetryClass, told: Option<Duration>) -> Duration {
    after_failure(None, class, told, None, seconds(0), 0.5).retry_at
}

/// When Azure is asked, in seconds, by somebody who asks the moment it is allowed, for two hours.
fn call_times(class: RetryClass) -> Vec<u64> {
    let (mut calls, mut negative, mut now) = (Vec::new(), None, seconds(0));
    while now < seconds(7200) {
        calls.push(now.as_secs());
        let after = after_failure(negative.as_ref(), class, None, None, now, 0.5);
        now = after.retry_at;
        negative = Some(after);
    }
    calls
}

fn within_an_hour(calls: &[u64]) -> usize {
    calls.iter().filter(|call| **call < 3600).count()
}

#[test]
fn u5_waiting_heals_within_a_minute_first_and_is_rare_later() {
    let calls = call_times(RetryClass::Waiting);
    assert_eq!(&calls[..5], [0, 15, 45, 105, 165]);
    // A late grant in the first quarter of an hour is noticed within a minute ...
    let early = calls.windows(2).filter(|pair| pair[0] < 900);
    assert!(early.into_iter().all(|pair| pair[1] - pair[0] <= 60));
    // ... and later within fifteen; and a hopeless one stays cheap.
    assert!(calls.windows(2).all(|pair| pair[1] - pair[0] <= 900));
    assert!(within_an_hour(&calls) <= 25, "{calls:?}");
    assert!(calls.iter().filter(|call| **call < 60).count() <= 4);
}

#[test]
fn u5_permanent_doubles_to_a_quarter_of_an_hour() {
    let calls = call_times(RetryClass::Permanent);
    assert_eq!(&calls[..6], [0, 30, 90, 210, 450, 930]);
    assert!(within_an_hour(&calls) <= 8, "{calls:?}");
    assert!(calls.len() - within_an_hour(&calls) <= 4);
}

#[test]
fn after_failure_throttled_waits_as_told_up_to_an_hour() {
    assert_eq!(first(RetryClass::Throttled, Some(seconds(7))), seconds(7));
    assert_eq!(first(RetryClass::Throttled, Some(seconds(99_999))), seconds(3600));
    assert_eq!(first(RetryClass::Throttled, None), seconds(60));
}

#[test]
fn after_failure_transient_waits_as_told_too() {
    assert_eq!(first(RetryClass::Transient, Some(seconds(120))), seconds(120));
}

#[test]
fn after_failure_another_class_begins_a_new_row() {
    let again = |before: &Negative, class, now| after_failure(Some(before), class, None, None, now, 0.5);
    let mut row = after_failure(None, RetryClass::Transient, None, None, seconds(0), 0.5);
    for _ in 0..10 {
        row = again(&row, RetryClass::Transient, row.retry_at);
    }
    let other = again(&row, RetryClass::Permanent, row.retry_at);
    assert_eq!(other.retry_at.saturating_sub(row.retry_at), seconds(30));
    let much_later = other.retry_at + seconds(3600);
    let fresh = again(&other, RetryClass::Permanent, much_later);
    assert_eq!((fresh.failures, fresh.first_failed_at), (1, much_later));
}

#[test]
fn u2_after_three_tries_a_good_token_is_renewed_without_hurry() {
    let left = Some(seconds(1000));
    let (mut row, mut now, mut waits) = (None, seconds(0), Vec::new());
    for _ in 0..4 {
        let after = after_failure(row.as_ref(), RetryClass::Transient, None, left, now, 0.5);
        waits.push(after.retry_at.saturating_sub(now).as_secs());
        (now, row) = (after.retry_at, Some(after));
    }
    assert_eq!(waits, [1, 2, 400, 400], "1 s, 2 s, and then 40 % of what is left");
}

proptest! {
    #[test]
    fn u2_transient_tries_are_spread_from_a_second_to_a_minute(
        failures in 1_u32..100, chance in 0.0_f64..1.0,
    ) {
        let before = Negative { class: RetryClass::Transient, failures, first_failed_at: seconds(0), retry_at: seconds(0) };
        let after = after_failure(Some(&before), RetryClass::Transient, None, None, seconds(0), chance);
        prop_assert!(after.retry_at >= seconds(1) && after.retry_at <= seconds(60));
        let cap = seconds(2_u64.saturating_pow(failures.saturating_add(1).min(16)).min(60));
        prop_assert!(after.retry_at <= cap.mul_f64(chance).max(seconds(1)), "full jitter");
    }

    #[test]
    fn after_failure_never_asks_again_at_once(failures in 1_u32..100, chance in 0.0_f64..1.0) {
        for class in [RetryClass::Waiting, RetryClass::Permanent, RetryClass::Throttled, RetryClass::Transient] {
            let now = seconds(u64::from(failures) * 10);
            let before = Negative { class, failures, first_failed_at: seconds(0), retry_at: now };
            let wait = after_failure(Some(&before), class, None, None, now, chance).retry_at.saturating_sub(now);
            prop_assert!(wait >= seconds(1) && wait <= seconds(900), "{class:?} {wait:?}");
        }
    }
}
