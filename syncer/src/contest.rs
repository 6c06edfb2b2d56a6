//! A fight over something that the syncer keeps: somebody undoes each write of it, and each repair brings the next.
//! A tool that applies what is in Git, another controller, an admission webhook.
//!
//! The first repairs are made at once. After `LIMIT` writes within `WINDOW` they wait, ever longer, until nobody has
//! undone the last one for long enough. Pure: the time and the dice are passed in. The time is that of the monotonic
//! clock, so a time of day that is set makes no fight begin, end or last. A restart may forget all of it; the count then
//! starts over.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::schedule::later;

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
    written: Vec<Duration>,
    round: Option<Round>,
}

/// A fight that goes on, by the clock of whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fight<T = Timestamp> {
    /// No repair before this.
    pub next_at: T,
    /// When it is over, if nothing has to be repaired until then.
    pub over_at: T,
}

/// The time since the last write of a fight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    pause: Duration,
    fight: Fight<Duration>,
}

impl Contest {
    /// It was written. `draw` is a number in [0, 1).
    pub fn wrote(&mut self, now: Duration, draw: f64) {
        let goes_on = self.fight(now).is_some();
        self.written.retain(|at| now.saturating_sub(*at) < WINDOW);
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
                next_at: now.saturating_add(pause.mul_f64(1.0 - draw / 10.0)),
                over_at: now.saturating_add(pause.saturating_mul(2).max(WINDOW)),
            },
        });
        // The writes before a fight have done their part; those after it count anew.
        if self.round.is_some() {
            self.written.clear();
        }
    }

    /// The fight, if there is one.
    pub fn fight(&self, now: Duration) -> Option<Fight<Duration>> {
        let round = self.round?;
        (now < round.fight.over_at).then_some(round.fight)
    }

    /// Nothing of it matters any more.
    pub fn is_past(&self, now: Duration) -> bool {
        self.fight(now).is_none() && self.written.iter().all(|at| now.saturating_sub(*at) >= WINDOW)
    }
}

impl Fight<Duration> {
    /// The same by the time of a binding, which is `now` at this moment of the monotonic clock.
    pub fn told_at(self, monotonic: Duration, now: Timestamp) -> Fight {
        let by_now = |at: Duration| later(now, at.saturating_sub(monotonic));
        Fight {
            next_at: by_now(self.next_at),
            over_at: by_now(self.over_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::ToSpan as _;

    use super::*;
    use crate::samples;

    /// [`LIMIT`].
    const WRITES: u32 = 5;
    const MINUTE: Duration = Duration::from_secs(60);

    /// Some moment of a process that runs for a while.
    fn now() -> Duration {
        MINUTE * 1_000
    }

    /// Written so often, a second apart; the last time at [`now`].
    fn written(times: u32) -> Contest {
        let mut contest = Contest::default();
        for ago in (0..times).rev() {
            contest.wrote(now().saturating_sub(Duration::from_secs(1) * ago), 0.0);
        }
        contest
    }

    #[test]
    fn contest_first_repairs_are_made_at_once() {
        assert_eq!(written(WRITES - 1).fight(now()), None);
        let fight = written(WRITES).fight(now()).unwrap();
        assert_eq!(fight.next_at, now() + MINUTE);
        assert_eq!(fight.over_at, now() + MINUTE * 10);
    }

    #[test]
    fn contest_that_goes_on_doubles_the_pause_up_to_a_quarter_of_an_hour() {
        let (mut contest, mut at) = (written(WRITES), now());
        let mut pauses = Vec::new();
        for _round in 0..6 {
            let next_at = contest.fight(at).unwrap().next_at;
            pauses.push(next_at.saturating_sub(at).as_secs() / 60);
            at = next_at;
            contest.wrote(at, 0.0);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15]);
        let fight = contest.fight(at).unwrap();
        assert_eq!(fight.over_at, at + LONGEST_PAUSE * 2);
    }

    #[test]
    fn contest_repairs_of_an_hour_are_few() {
        let (mut contest, mut writes) = (Contest::default(), 0);
        // Undone at once, every time.
        for second in 0..3_600 {
            let at = now() + Duration::from_secs(second);
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
            let at = now() + MINUTE * 3 * times;
            contest.wrote(at, 0.0);
            assert_eq!(contest.fight(at), None);
        }
        assert!(contest.written.len() <= LIMIT);
    }

    #[test]
    fn contest_calm_ends_it_and_the_count_starts_over() {
        let mut contest = written(WRITES);
        let after = now() + MINUTE * 10;
        assert!(!contest.is_past(now() + MINUTE * 9));
        assert!(contest.is_past(after));
        contest.wrote(after, 0.0);
        assert_eq!(contest.fight(after), None);
    }

    #[test]
    fn contest_draw_shortens_the_pause_by_a_tenth_at_most() {
        let mut contest = written(WRITES - 1);
        contest.wrote(now(), 0.999);
        let pause = contest.fight(now()).unwrap().next_at.saturating_sub(now());
        assert!(pause >= Duration::from_secs(54) && pause < Duration::from_secs(55));
    }

    #[test]
    fn contest_is_told_by_the_time_of_a_binding() {
        let fight = written(WRITES).fight(now()).unwrap();
        let (later, of_the_binding) = (now() + MINUTE / 2, samples::now());
        let told = fight.told_at(later, of_the_binding);
        assert_eq!(told.next_at, of_the_binding + 30.seconds());
        assert_eq!(told.over_at, of_the_binding + 570.seconds());
        assert_eq!(
            fight.told_at(now() + MINUTE * 2, of_the_binding).next_at,
            of_the_binding
        );
    }
}
