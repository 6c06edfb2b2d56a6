//! Says in the log what would otherwise be said ten thousand times: at once, and then after pauses that double, with
//! how often it was kept back meanwhile. Decides when; whoever asks says what.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;

use crate::schedule;

/// The pause after what is said first.
const FIRST: Duration = Duration::from_secs(10);
/// The longest pause. What was silent for longer begins anew.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// One kind of trouble. Shared by all that may have it.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Option<Said>>);

#[derive(Debug)]
struct Said {
    at: Timestamp,
    pause: Duration,
    kept_back: u64,
}

impl Seldom {
    /// Whether it is to be said now, and if so how often it was kept back.
    pub fn is_due(&self, now: Timestamp) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (pause, kept_back) = match said.as_mut() {
            Some(said) if schedule::elapsed(said.at, now) < said.pause => {
                said.kept_back = said.kept_back.saturating_add(1);
                return None;
            }
            Some(said) if schedule::elapsed(said.at, now) < said.pause + LONGEST => {
                (said.pause.saturating_mul(2).min(LONGEST), said.kept_back)
            }
            Some(said) => (FIRST, said.kept_back),
            None => (FIRST, 0),
        };
        *said = Some(Said {
            at: now,
            pause,
            kept_back: 0,
        });
        Some(kept_back)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::ToSpan as _;

    use super::*;
    use crate::samples::now;

    #[test]
    fn seldom_says_the_first_and_then_ever_more_rarely() {
        let trouble = Seldom::default();
        let said: Vec<i64> = (0..3600)
            .filter(|second| trouble.is_due(now() + second.seconds()).is_some())
            .collect();
        assert_eq!(said, [0, 10, 30, 70, 150, 310, 630, 1230, 1830, 2430, 3030]);
    }

    #[test]
    fn seldom_counts_what_it_kept_back() {
        let trouble = Seldom::default();
        assert_eq!(trouble.is_due(now()), Some(0));
        for _more in 0..41 {
            assert_eq!(trouble.is_due(now() + 1.second()), None);
        }
        assert_eq!(trouble.is_due(now() + 11.seconds()), Some(41));
    }

    #[test]
    fn seldom_trouble_that_comes_back_is_said_at_once() {
        let trouble = Seldom::default();
        trouble.is_due(now());
        assert_eq!(trouble.is_due(now() + 1.hour()), Some(0));
        assert_eq!(trouble.is_due(now() + 1.hour() + 9.seconds()), None);
        assert_eq!(trouble.is_due(now() + 1.hour() + 10.seconds()), Some(1));
    }
}
