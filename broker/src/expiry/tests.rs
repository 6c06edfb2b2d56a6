//! The serving rule in numbers, by both clocks.

use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use proto::catalogue::RetryClass;

use super::*;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn day(n: u64) -> SystemTime {
    UNIX_EPOCH + seconds(1_000_000 + n)
}

/// `n` seconds after the receipt of the token, by both clocks.
fn at(n: u64) -> Moment {
    Moment {
        wall: day(n),
        monotonic: seconds(5_000 + n),
    }
}

/// A token of 1,000 s received at 0, to be renewed at 600.
fn token() -> Lifetime {
    Lifetime {
        refresh_age: seconds(600),
        ..Lifetime::new(at(0), day(1000), 0.0)
    }
}

fn blocked_until(n: u64) -> Record {
    Record {
        negative: Some(Negative {
            class: RetryClass::Waiting,
            failures: 1,
            first_failed_at: at(0).monotonic,
            retry_at: at(n).monotonic,
        }),
        ..Record::default()
    }
}

const PLAIN: Need = Need {
    min_remaining: None,
    has_current: false,
    rejected_current: false,
    force: false,
};
const HOLDER: Need = Need {
    has_current: true,
    ..PLAIN
};
const FORCE: Need = Need { force: true, ..PLAIN };
const REJECTED: Need = Need {
    rejected_current: true,
    ..PLAIN
};

#[test]
fn decide_follows_the_life_of_a_token() {
    for (now, need, expected) in [
        (0, PLAIN, Decision::Serve),
        (599, HOLDER, Decision::Serve),
        (600, PLAIN, Decision::ServeAndRefresh),
        // The refresh handshake: who has this token already waits for a newer one.
        (600, HOLDER, Decision::Fetch),
        (669, PLAIN, Decision::ServeAndRefresh),
        (671, PLAIN, Decision::Fetch),
        (941, PLAIN, Decision::Fetch),
        (1001, PLAIN, Decision::Fetch),
    ] {
        let decision = decide(Some(&token()), &Record::default(), &need, at(now));
        assert_eq!(decision, expected, "at {now}");
    }
    assert_eq!(decide(None, &Record::default(), &PLAIN, at(0)), Decision::Fetch);
}

#[test]
fn decide_while_a_failure_is_remembered_asks_nobody() {
    let blocked = blocked_until(800);
    for (token, need, now, expected) in [
        (None, PLAIN, 10, Decision::Remembered),
        (Some(token()), PLAIN, 10, Decision::Serve),
        (Some(token()), PLAIN, 610, Decision::Serve),
        (Some(token()), HOLDER, 610, Decision::Remembered),
        (Some(token()), PLAIN, 700, Decision::Remembered),
        (None, PLAIN, 800, Decision::Fetch),
    ] {
        assert_eq!(
            decide(token.as_ref(), &blocked, &need, at(now)),
            expected,
            "at {now}"
        );
    }
}

#[test]
fn decide_after_a_renewal_in_the_background_failed_starts_no_other_until_it_may() {
    let quiet = Record {
        quiet_until: Some(at(650).monotonic),
        ..Record::default()
    };
    assert_eq!(decide(Some(&token()), &quiet, &PLAIN, at(649)), Decision::Serve);
    assert_eq!(
        decide(Some(&token()), &quiet, &PLAIN, at(650)),
        Decision::ServeAndRefresh
    );
    assert_eq!(decide(Some(&token()), &quiet, &HOLDER, at(649)), Decision::Fetch);
}

#[test]
fn c5_force_passes_a_remembered_failure_once_a_minute() {
    let blocked = blocked_until(800);
    assert_eq!(decide(None, &blocked, &FORCE, at(10)), Decision::FetchCaused);
    let caused = Record {
        caused_at: Some(at(10).monotonic),
        ..blocked
    };
    assert_eq!(decide(None, &caused, &FORCE, at(69)), Decision::Remembered);
    assert_eq!(decide(None, &caused, &FORCE, at(70)), Decision::FetchCaused);
}

#[test]
fn c5_force_and_rejection_renew_a_good_token_once_a_minute() {
    for need in [FORCE, REJECTED] {
        let nothing = Record::default();
        assert_eq!(decide(Some(&token()), &nothing, &need, at(59)), Decision::Serve);
        assert_eq!(
            decide(Some(&token()), &nothing, &need, at(60)),
            Decision::FetchCaused
        );
        // Whatever came of it: an identical token, or one that is refused as well.
        let caused = Record {
            caused_at: Some(at(60).monotonic),
            ..nothing
        };
        assert_eq!(decide(Some(&token()), &caused, &need, at(119)), Decision::Serve);
        assert_eq!(
            decide(Some(&token()), &caused, &need, at(120)),
            Decision::FetchCaused
        );
    }
}

#[test]
fn satisfies_clamps_what_a_caller_may_ask_for() {
    let token = token();
    // Half of the life at most: who asks for more would renew on every request.
    assert!(token.satisfies(Some(seconds(900)), at(500)));
    assert!(!token.satisfies(Some(seconds(900)), at(501)));
    // A young token satisfies anything.
    let short = Lifetime::new(at(0), day(70), 0.0);
    assert!(short.satisfies(Some(seconds(900)), at(5)));
    // Nothing under the floor is ever handed out.
    assert!(!token.satisfies(Some(seconds(0)), at(941)));
}

#[test]
fn s3_a_token_that_could_not_be_bettered_is_due_again_later_and_in_time() {
    let token = token();
    let (again, _pause) = token.not_renewed(at(600));
    assert!(!again.is_due(at(659)) && again.is_due(at(660)));
    // With little left, after half of it.
    let (again, _pause) = token.not_renewed(at(980));
    assert!(!again.is_due(at(989)) && again.is_due(at(990)));
}

#[test]
fn s7_a_clock_that_was_set_back_brings_no_dead_token_to_life() {
    let token = token();
    let set_back = |n: u64| Moment {
        wall: day(n) - seconds(3600),
        ..at(n)
    };
    assert_eq!(token.remaining(set_back(900)), seconds(100));
    assert!(
        !token.is_usable(set_back(950)),
        "dead by the clock that only passes"
    );
    assert_eq!(
        decide(Some(&token), &Record::default(), &PLAIN, set_back(1100)),
        Decision::Fetch
    );
    assert!(
        !token.satisfies(Some(seconds(900)), set_back(600)),
        "nothing is young again"
    );
    assert_eq!(
        decide(None, &blocked_until(800), &PLAIN, set_back(801)),
        Decision::Fetch,
        "and nobody is blocked for longer"
    );
}

#[test]
fn s7_a_clock_that_was_set_forward_hands_out_nothing_that_looks_expired() {
    let set_forward = Moment {
        wall: day(10) + seconds(3600),
        ..at(10)
    };
    assert_eq!(
        decide(Some(&token()), &Record::default(), &PLAIN, set_forward),
        Decision::Fetch
    );
    assert_eq!(
        decide(None, &blocked_until(800), &PLAIN, set_forward),
        Decision::Remembered,
        "a remembered failure is not freed by it"
    );
}

#[test]
fn s7_a_machine_that_slept_hands_out_nothing_that_expired_meanwhile() {
    let after_sleep = Moment {
        wall: day(5000),
        ..at(10)
    };
    assert_eq!(token().remaining(after_sleep), Duration::ZERO);
}

#[test]
fn refresh_at_is_the_refresh_point_as_a_time_of_day() {
    assert_eq!(token().refresh_at(at(100)), day(600));
    assert_eq!(token().refresh_at(at(700)), day(600));
}

proptest! {
    #[test]
    fn s1_what_is_served_without_asking_has_a_third_of_its_life_left_or_is_young(
        total in 61_u64..90_000, age in 0_u64..90_000, step in -7200_i64..7200, chance in 0.0_f64..1.0,
    ) {
        let token = Lifetime::new(at(0), day(total), chance);
        let now = Moment {
            wall: day(age).checked_add(seconds(step.unsigned_abs()).mul_f64(f64::from(step > 0))).unwrap()
                - seconds(step.unsigned_abs()).mul_f64(f64::from(step < 0)),
            ..at(age)
        };
        prop_assert!(token.refresh_age >= seconds(total / 2) && token.refresh_age <= seconds(total * 65 / 100 + 1));
        let decision = decide(Some(&token), &Record::default(), &PLAIN, now);
        if matches!(decision, Decision::Serve | Decision::ServeAndRefresh) {
            // What is really left, whatever the time of day says.
            let left = seconds(total.saturating_sub(age));
            prop_assert!(left >= FLOOR);
            prop_assert!(age < 60 || left.as_secs_f64() >= 0.33 * seconds(total).as_secs_f64());
        }
    }

    #[test]
    fn c4_renewals_of_one_key_are_half_a_life_apart(chance in 0.0_f64..1.0, total in 300_u64..90_000) {
        // Somebody asks every second; each fetch brings a token of the same life.
        let (mut token, mut fetched_at) = (Lifetime::new(at(0), day(total), chance), 0);
        for now in (0..3 * total).step_by(usize::try_from(total / 100).unwrap()) {
            if decide(Some(&token), &Record::default(), &HOLDER, at(now)) != Decision::Serve {
                prop_assert!(now - fetched_at >= total / 2, "{} after {}", now, fetched_at);
                token = Lifetime::new(at(now), day(now + total), chance);
                fetched_at = now;
            }
        }
    }
}

#[test]
fn s6_tokens_of_one_second_are_renewed_over_a_seventh_of_their_life() {
    use rand::{RngExt as _, SeedableRng as _};
    // Refresh points of 1,000 keys of 75 minutes, issued at once, drawn as the cache draws them.
    for seed in 0..20 {
        let mut chance = rand::rngs::StdRng::seed_from_u64(seed);
        let mut per_second = vec![0_u32; 4500];
        for _ in 0..1_000 {
            let token = Lifetime::new(at(0), day(4500), chance.random());
            per_second[usize::try_from(token.refresh_period().as_secs()).unwrap()] += 1;
        }
        assert!(
            per_second.iter().all(|count| *count <= 10),
            "1 % in a second, seed {seed}"
        );
        assert_eq!(per_second[2250..=2925].iter().sum::<u32>(), 1_000);
        // Uniform over those 675 s: chi-square over 27 bins of 25 s, 26 degrees of freedom, far beyond p = 0.001.
        let bins = per_second[2250..2925]
            .chunks(25)
            .map(|bin| bin.iter().sum::<u32>());
        let expected = 1_000.0 / 27.0;
        let chi_square: f64 = bins
            .map(|bin| (f64::from(bin) - expected).powi(2) / expected)
            .sum();
        assert!(chi_square < 60.0, "{chi_square}, seed {seed}");
    }
}
