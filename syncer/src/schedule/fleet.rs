//! Thousands of bindings by the real schedule, in simulated time: how many ask in the same second.

use std::collections::BTreeMap;

use k8s_openapi::jiff::ToSpan as _;
use proto::Reason;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::samples::now;

/// What one pass of a binding found.
struct Member {
    expires_at: Timestamp,
    run: Option<FailureRun>,
    next_at: Timestamp,
}

/// The most that fall into one second.
fn peak(times: impl IntoIterator<Item = Timestamp>) -> usize {
    let mut seconds = BTreeMap::new();
    for time in times {
        *seconds.entry(time.as_second()).or_insert(0) += 1;
    }
    seconds.into_values().max().unwrap_or_default()
}

/// The broker is away for so long. What each of `count` bindings has left when the outage begins is spread over an hour
/// and a half; all are due at once. Says who asked when, during the last minute of it and after.
fn outage(count: u32, away: Duration) -> (usize, Vec<(Timestamp, Timestamp)>) {
    let mut dice = StdRng::seed_from_u64(7);
    let back = later(now(), away);
    let mut last_minute = Vec::new();
    let mut recovered = Vec::new();
    for number in 0..count {
        let mut member = Member {
            expires_at: now() + (10 + i64::from(number) % 80).minutes() + away_minutes(away).minutes(),
            run: None,
            next_at: later(now(), Duration::from_secs(1).mul_f64(dice.random())),
        };
        while member.next_at < back {
            let time = member.next_at;
            if elapsed(time, back) <= Duration::from_secs(60) {
                last_minute.push(time);
            }
            let problem = Problem::new(Reason::BrokerUnreachable, "away");
            let left = elapsed(time, member.expires_at);
            let run = FailureRun::after(member.run.as_ref(), "inputs", problem, time, dice.random())
                .with_credential_left(left, time, dice.random());
            member.next_at = run.next_at;
            member.run = Some(run);
        }
        recovered.push((member.next_at, member.expires_at));
    }
    (peak(last_minute), recovered)
}

fn away_minutes(away: Duration) -> i64 {
    i64::try_from(away.as_secs() / 60).unwrap()
}

#[test]
fn b23_bindings_created_together_do_not_refresh_together() {
    const COUNT: usize = 1_000;
    let mut dice = StdRng::seed_from_u64(23);
    let life = Duration::from_secs(75 * 60);
    // One credential for all, as the broker's cache hands it out; its refresh time is the same for everybody.
    let (expires_at, told) = (later(now(), life), later(now(), life.mul_f64(0.5)));
    let mut due: Vec<_> = (0..COUNT)
        .map(|_number| refresh_at(told, expires_at, now(), dice.random()))
        .collect();
    assert!(due.iter().all(|at| *at >= told && *at < expires_at));
    assert!(peak(due.iter().copied()) <= COUNT / 50, "{}", peak(due));
    // Nor do they come together in time: who asks later gets the same credential, and draws again.
    for round in 1..10 {
        let (expires_at, told) = (later(told, life * round), later(told, life.mul_f64(0.5) * round));
        due = due
            .iter()
            .map(|at| refresh_at(told.max(*at), expires_at.max(*at), *at, dice.random()))
            .collect();
        assert!(peak(due.iter().copied()) <= COUNT / 50, "round {round}");
    }
}

#[test]
fn schedule_broker_that_comes_back_is_not_asked_by_10_000_bindings_at_once() {
    const COUNT: u32 = 10_000;
    for away in [5, 30, 120].map(|minutes| Duration::from_secs(minutes * 60)) {
        let (during, recovered) = outage(COUNT, away);
        let after = peak(recovered.iter().map(|(at, _expires_at)| *at));
        let bound = usize::try_from(COUNT).unwrap() * 3 / 100;
        assert!(during <= bound, "{during} in a second of the outage of {away:?}");
        assert!(after <= bound, "{after} in a second after the outage of {away:?}");
        let back = later(now(), away);
        assert!(
            recovered
                .iter()
                .all(|(at, _expires_at)| elapsed(back, *at) <= TRANSIENT_UNHURRIED),
            "somebody waits for more than {TRANSIENT_UNHURRIED:?}"
        );
    }
}

#[test]
fn schedule_after_an_outage_who_has_the_least_left_comes_first() {
    let away = Duration::from_secs(30 * 60);
    let back = later(now(), away);
    let (_during, recovered) = outage(10_000, away);
    let mean = |is_concerned: &dyn Fn(Duration) -> bool| {
        let waits: Vec<_> = recovered
            .iter()
            .filter(|(_at, expires_at)| is_concerned(elapsed(back, *expires_at)))
            .map(|(at, _expires_at)| elapsed(back, *at).as_secs_f64())
            .collect();
        assert!(waits.len() > 500, "{}", waits.len());
        waits.iter().sum::<f64>() / f64::from(u32::try_from(waits.len()).unwrap())
    };
    let (soon, late) = (
        mean(&|left| left < Duration::from_secs(20 * 60)),
        mean(&|left| left > Duration::from_secs(60 * 60)),
    );
    assert!(
        soon * 2.0 < late,
        "{soon} s of those with little left, {late} s of the others"
    );
    assert!(
        recovered.iter().all(|(at, expires_at)| at < expires_at),
        "a credential expired although there was time"
    );
}

#[test]
fn schedule_10_000_that_are_told_the_same_second_do_not_come_back_in_one() {
    let mut dice = StdRng::seed_from_u64(42);
    for retry_after in [None, Some(Duration::from_secs(30))] {
        let come = (0..10_000).map(|_number| {
            let problem = Problem {
                retry_after,
                ..Problem::new(Reason::UpstreamThrottled, "too many")
            };
            FailureRun::after(None, "inputs", problem, now(), dice.random()).next_at
        });
        let come: Vec<_> = come.collect();
        let told = later(now(), retry_after.unwrap_or(THROTTLED));
        assert!(come.iter().all(|at| *at >= told), "earlier than was asked for");
        let peak = peak(come);
        assert!(peak <= 10_000 * 8 / 100, "{peak}");
    }
}
