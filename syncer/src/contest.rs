//! A fight over something that the syncer keeps: somebody undoes each write of it, and each repair brings the next.
//! A tool that applies what is in Git, another controller, an admission webhook.
//!
//! The first repairs are made at once. After `LIMIT` writes within `WINDOW` they wait, ever longer, until nobody has
//! undone the last one for long enough. Pure: the time and the dice are passed in. A restart may forget all of it; the
//! count then starts over.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::schedule::{elapsed, later};

/// So many writes of one thing, the first included, ...
const LIMIT: usize = 5;
/// ... within this time are a fight; and nothing undone for this time, or for two pauses, ends it.
const WINDOW: Duration = Duration::from_secs(10 * 60);
/// The pause before a repair, doubled by each repair in a fight ...
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// ... up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// How often one thing had to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contest {
    /// The last writes, `LIMIT` at most.
    written: Vec<Timestamp>,
    round: Option<Round>,
}

/// A fight that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fight {
    /// No repair before this.
    pub next_at: Timestamp,
    /// When it is over, if nothing has to be repaired until then.
    pub over_at: Timestamp,
}

/// The time since the last write of a fight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    pause: Duration,
    fight: Fight,
}

impl Contest {
    /// It was written. `draw` is a number in [0, 1).
    pub fn wrote(&mut self, now: Timestamp, draw: f64) {
        let goes_on = self.fight(now).is_some();
        self.written.retain(|at| elapsed(*at, now) < WINDOW);
        self.written.push(now);
        if self.written.len() > LIMIT {
            self.written.remove(0);
        }
        let pause = match self.round.filter(|_round| goes_on) {
            Some(round) => Some(round.pause.saturating_mul(2).min(LONGEST_PAUSE)),
            None => (self.written.len() == LIMIT).then_some(FIRST_PAUSE),
        };
        self.round = pause.map(|pause| Round {
            pause,
            fight: Fight {
                // A little less, so that many that began together do not stay together.
                next_at: later(now, pause.mul_f64(1.0 - draw / 10.0)),
                over_at: later(now, pause.saturating_mul(2).max(WINDOW)),
            },
        });
        // The writes before a fight have done their part; those after it count anew.
        if self.round.is_some() {
            self.written.clear();
        }
    }

    /// The fight, if there is one. None after the clock was set back: nobody waits for a time that was wrong.
    pub fn fight(&self, now: Timestamp) -> Option<Fight> {
        let round = self.round?;
        let is_on = now < round.fight.over_at && elapsed(now, round.fight.next_at) <= round.pause;
        is_on.then_some(round.fight)
    }

    /// Nothing of it matters any more.
    pub fn is_past(&self, now: Timestamp) -> bool {
        self.fight(now).is_none() && self.written.iter().all(|at| elapsed(*at, now) >= WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::{SignedDuration, ToSpan as _};

    use super::*;
    use crate::samples::now;

    /// Written so often, a second apart; the last time at [`now`].
    fn written(times: usize) -> Contest {
        let mut contest = Contest::default();
        for ago in (0..times).rev() {
            contest.wrote(
                now() - SignedDuration::from_secs(i64::try_from(ago).unwrap()),
                0.0,
            );
        }
        contest
    }

    #[test]
    fn contest_first_repairs_are_made_at_once() {
        assert_eq!(written(LIMIT - 1).fight(now()), None);
        let fight = written(LIMIT).fight(now()).unwrap();
        assert_eq!(fight.next_at, now() + 1.minute());
        assert_eq!(fight.over_at, now() + 10.minutes());
    }

    #[test]
    fn contest_that_goes_on_doubles_the_pause_up_to_a_quarter_of_an_hour() {
        let (mut contest, mut at) = (written(LIMIT), now());
        let mut pauses = Vec::new();
        for _round in 0..6 {
            let next_at = contest.fight(at).unwrap().next_at;
            pauses.push(elapsed(at, next_at).as_secs() / 60);
            at = next_at;
            contest.wrote(at, 0.0);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15]);
        let fight = contest.fight(at).unwrap();
        assert_eq!(elapsed(at, fight.over_at), LONGEST_PAUSE * 2);
    }

    #[test]
    fn contest_repairs_of_an_hour_are_few() {
        let (mut contest, mut writes) = (Contest::default(), 0);
        // Undone at once, every time.
        for second in 0..3_600 {
            let at = now() + SignedDuration::from_secs(second);
            if contest.fight(at).is_none_or(|fight| fight.next_at <= at) {
                contest.wrote(at, 0.5);
                writes += 1;
            }
        }
        assert!((LIMIT..=13).contains(&writes), "{writes}");
    }

    #[test]
    fn contest_slow_repairs_are_no_fight() {
        let mut contest = Contest::default();
        for times in 0..20 {
            let at = now() + SignedDuration::from_mins(times * 3);
            contest.wrote(at, 0.0);
            assert_eq!(contest.fight(at), None);
        }
        assert!(contest.written.len() <= LIMIT);
    }

    #[test]
    fn contest_calm_ends_it_and_the_count_starts_over() {
        let mut contest = written(LIMIT);
        let after = now() + 10.minutes();
        assert!(!contest.is_past(after - 1.second()));
        assert!(contest.is_past(after));
        contest.wrote(after, 0.0);
        assert_eq!(contest.fight(after), None);
    }

    #[test]
    fn contest_draw_shortens_the_pause_by_a_tenth_at_most() {
        let mut contest = written(LIMIT - 1);
        contest.wrote(now(), 0.999);
        let pause = elapsed(now(), contest.fight(now()).unwrap().next_at);
        assert!(pause >= Duration::from_secs(54) && pause < Duration::from_secs(55));
    }

    #[test]
    fn contest_clock_that_was_set_back_ends_it() {
        let contest = written(LIMIT);
        assert_eq!(contest.fight(now() - 1.hour()), None);
        assert!(contest.fight(now() + 30.seconds()).is_some());
    }
}
