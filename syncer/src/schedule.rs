//! When to try again, and when a credential is due. Pure: the time and the dice are passed in.
//!
//! `draw` is a number in [0, 1) from the caller's random source.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proto::catalogue::RetryClass;

use crate::problem::Problem;

/// For the first quarter of an hour a missing grant is asked for this often at least (a person is waiting) ...
const WAITING_FIRST: Duration = Duration::from_secs(15);
const WAITING_CAP: Duration = Duration::from_secs(60);
/// ... after that the pauses double,
const WAITING_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// up to this, the longest pause of all.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// What only a person can put right.
const PERMANENT_FIRST: Duration = Duration::from_secs(30);
/// The longest pause where the next attempt is a look that asks nobody but Kubernetes: a Secret of somebody else that is
/// deleted tells nobody.
const LOOK_CAP: Duration = Duration::from_secs(60);
/// Backoff of what heals by itself.
const TRANSIENT_FIRST: Duration = Duration::from_secs(1);
const TRANSIENT_CAP: Duration = Duration::from_secs(60);
/// The longest pause of a binding whose credential is valid for long. In an outage those are the many, and they can wait.
const TRANSIENT_UNHURRIED: Duration = Duration::from_secs(5 * 60);
/// Its pauses are this part of what is left of the credential, so that who has the least left comes first.
const SHARE_OF_WHAT_IS_LEFT: u32 = 20;
/// Throttled by a side that named no time.
const THROTTLED: Duration = Duration::from_secs(60);
/// A new grant takes effect within a minute; denials are not remembered by the broker and cost it little.
const DENIED: Duration = Duration::from_secs(30);
/// The longest wait that is taken from the other side.
const LONGEST_HINT: Duration = Duration::from_secs(60 * 60);
/// Spread over hints, so that a thousand bindings that were told the same second do not come in the same one ...
const HINT_JITTER: Duration = Duration::from_secs(1);
/// ... and over this part of the hint where there were too many of them, or all of them failed.
const HINT_SHARE: u32 = 2;
/// A credential with less left than this is as good as none ...
const NEARLY_EXPIRED: Duration = Duration::from_secs(60);
/// ... and one with more can wait for so long while others ask.
const PATIENT: Duration = Duration::from_secs(2 * 60);
/// Who has none, and failed to get one, lets those pass for so long that ask for the first time.
const FAILED_BEFORE: Duration = Duration::from_secs(10);
/// Share of a credential's remaining life over which refreshes of bindings with equal credentials are spread.
const REFRESH_JITTER: f64 = 0.05;

/// Failed attempts in a row, for the same inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureRun {
    /// What the attempts were for. A run ends when this changes.
    pub inputs: String,
    /// The last problem.
    pub problem: Problem,
    /// All attempts since the last success.
    pub attempts: u32,
    /// Attempts of the present retry class, and since when.
    in_class: u32,
    class_since: Timestamp,
    /// No attempt before this.
    pub next_at: Timestamp,
}

impl FailureRun {
    /// The run after one more failed attempt.
    pub fn after(previous: Option<&Self>, inputs: &str, problem: Problem, now: Timestamp, draw: f64) -> Self {
        let previous = previous.filter(|run| run.inputs == inputs);
        let class = problem.reason.retry_class();
        let same_class = previous.filter(|run| run.problem.reason.retry_class() == class);
        let in_class = same_class.map_or(0, |run| run.in_class).saturating_add(1);
        let class_since = same_class.map_or(now, |run| run.class_since);
        let pause = match problem.retry_after {
            Some(hint) => spread(class, hint.min(LONGEST_HINT), draw),
            None => pause(class, in_class, elapsed(class_since, now), draw),
        };
        Self {
            inputs: inputs.to_owned(),
            problem,
            attempts: previous.map_or(0, |run| run.attempts).saturating_add(1),
            in_class,
            class_since,
            next_at: later(now, pause.max(TRANSIENT_FIRST)),
        }
    }

    /// The same for a binding whose credential is valid for so long: once the pauses have grown to their cap, they grow
    /// with what is left of it.
    #[must_use]
    pub fn with_credential_left(self, left: Duration, now: Timestamp, draw: f64) -> Self {
        let has_grown = TRANSIENT_FIRST.saturating_mul(1 << self.in_class.min(16)) > TRANSIENT_CAP;
        let is_own_pause = self.problem.retry_after.is_none();
        if self.problem.reason.retry_class() != RetryClass::Transient || !has_grown || !is_own_pause {
            return self;
        }
        let cap = (left / SHARE_OF_WHAT_IS_LEFT).clamp(TRANSIENT_FIRST, TRANSIENT_UNHURRIED);
        Self {
            next_at: later(now, cap.mul_f64(draw).max(TRANSIENT_FIRST)),
            ..self
        }
    }

    /// The same where the next attempt is a mere look.
    #[must_use]
    pub fn looked_at(self, now: Timestamp, draw: f64) -> Self {
        let at_the_latest = later(now, LOOK_CAP.mul_f64(1.0 - draw / 10.0));
        Self {
            next_at: self.next_at.min(at_the_latest),
            ..self
        }
    }
}

/// How long a question can wait for its turn while others are put: not at all without a credential, for Pods wait
/// for it, and otherwise the longer the more is `left` of it, up to a bound that keeps anybody from starving.
pub fn patience(left: Option<Duration>, failed_attempts: u32) -> Duration {
    let ahead = left.and_then(|left| left.checked_sub(NEARLY_EXPIRED));
    match ahead {
        Some(ahead) => ahead.min(PATIENT),
        None if failed_attempts > 0 => FAILED_BEFORE,
        None => Duration::ZERO,
    }
}

/// The hint, or a while later.
fn spread(class: RetryClass, hint: Duration, draw: f64) -> Duration {
    let over = match class {
        RetryClass::Throttled | RetryClass::Transient => (hint / HINT_SHARE).max(HINT_JITTER),
        RetryClass::Waiting | RetryClass::Permanent | RetryClass::Caller | RetryClass::Denied => HINT_JITTER,
    };
    hint + over.mul_f64(draw)
}

/// The pause after the `attempt`th failure of a class that began `since` ago.
fn pause(class: RetryClass, attempt: u32, since: Duration, draw: f64) -> Duration {
    let doubled = |first: Duration, times: u32| first.saturating_mul(1_u32 << times.min(16)).min(LONGEST);
    let slightly_less = |pause: Duration| pause.mul_f64(1.0 - draw / 10.0);
    match class {
        RetryClass::Waiting if since < WAITING_PATIENCE => {
            slightly_less(doubled(WAITING_FIRST, attempt.saturating_sub(1)).min(WAITING_CAP))
        }
        // The time since the beginning is the measure, not the attempts: doubling it doubles the pauses.
        RetryClass::Waiting => {
            slightly_less(since.saturating_sub(WAITING_PATIENCE).clamp(WAITING_CAP, LONGEST))
        }
        RetryClass::Permanent | RetryClass::Caller => {
            slightly_less(doubled(PERMANENT_FIRST, attempt.saturating_sub(1)))
        }
        RetryClass::Throttled => spread(class, THROTTLED, draw),
        RetryClass::Transient => doubled(TRANSIENT_FIRST, attempt).min(TRANSIENT_CAP).mul_f64(draw),
        RetryClass::Denied => DENIED.mul_f64(1.0 + draw),
    }
}

/// When to ask for the next credential: when the broker said, and a little later than others.
///
/// Drawn once per answer, one that says "not modified" included, for it names another time. Between answers the time
/// stands in the Secret, and no pass and no restart draws again.
///
/// A time that has passed is that of a broker whose clock is behind ours, or which has nothing newer. It is asked again
/// when some more of the credential is used up: each answer is written down, and a clock may stay wrong for long.
pub fn refresh_at(refresh_time: Timestamp, expires_at: Timestamp, now: Timestamp, draw: f64) -> Timestamp {
    let left = elapsed(now, expires_at);
    let jitter = left.mul_f64(REFRESH_JITTER * draw);
    // Never past the middle between the due time and the end.
    let latest = elapsed(refresh_time, expires_at) / 2;
    let soonest = if refresh_time > now {
        TRANSIENT_FIRST
    } else {
        TRANSIENT_FIRST.max(left / SHARE_OF_WHAT_IS_LEFT)
    };
    later(refresh_time.max(later(now, soonest)), jitter.min(latest))
}

/// How long from `from` to `to`; zero if that is the past.
pub fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// The time that lies `by` after `time`.
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod fleet;

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::ToSpan as _;
    use proptest::prelude::*;
    use proto::Reason;

    use super::*;
    use crate::samples::now;

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(count * 60)
    }

    /// Attempts within `span`, each made as soon as it may be, and the longest pause among them.
    fn attempts_within(reason: Reason, span: Duration, draw: f64) -> (u32, Duration) {
        let (mut time, mut run, mut longest) = (now(), None, Duration::ZERO);
        let mut count = 0;
        while elapsed(now(), time) < span {
            let next = FailureRun::after(run.as_ref(), "inputs", Problem::new(reason, "m"), time, draw);
            longest = longest.max(elapsed(time, next.next_at));
            time = next.next_at;
            run = Some(next);
            count += 1;
        }
        (count, longest)
    }

    #[test]
    fn schedule_missing_grant_is_asked_for_every_minute_in_the_first_quarter_of_an_hour() {
        let (count, longest) = attempts_within(Reason::RegistryUnauthorized, minutes(15), 0.0);
        assert!(longest <= Duration::from_secs(60), "{longest:?}");
        assert!((15..=20).contains(&count), "{count}");
        let (count, longest) = attempts_within(Reason::RegistryUnauthorized, minutes(60), 0.0);
        assert!(longest <= minutes(15), "{longest:?}");
        assert!(count <= 25, "{count}");
    }

    #[test]
    fn schedule_what_only_a_person_can_put_right_is_rare() {
        let (count, longest) = attempts_within(Reason::TenantNotFound, minutes(60), 0.0);
        assert!(count <= 8, "{count}");
        assert_eq!(longest, minutes(15));
    }

    #[test]
    fn schedule_look_at_a_name_that_somebody_else_has_comes_every_minute() {
        let (mut time, mut run) = (now(), None);
        for attempt in 0..30 {
            let problem = Problem::new(Reason::SecretConflict, "m");
            let next = FailureRun::after(run.as_ref(), "", problem, time, 0.5).looked_at(time, 0.5);
            let pause = elapsed(time, next.next_at);
            let most = if attempt == 0 { PERMANENT_FIRST } else { LOOK_CAP };
            assert!(
                pause >= most.mul_f64(0.9) && pause <= most,
                "{attempt}: {pause:?}"
            );
            time = next.next_at;
            run = Some(next);
        }
    }

    #[test]
    fn schedule_denied_is_tried_again_within_a_minute() {
        for draw in [0.0, 0.5, 0.999] {
            let (_, longest) = attempts_within(Reason::PolicyDenied, minutes(10), draw);
            assert!(
                (Duration::from_secs(30)..=minutes(1)).contains(&longest),
                "{longest:?}"
            );
        }
    }

    #[test]
    fn schedule_hint_of_the_broker_wins_and_is_capped() {
        let hinted = |hint| {
            let problem = Problem {
                retry_after: Some(hint),
                ..Problem::new(Reason::UpstreamThrottled, "m")
            };
            elapsed(
                now(),
                FailureRun::after(None, "inputs", problem, now(), 0.0).next_at,
            )
        };
        assert_eq!(hinted(Duration::from_secs(42)), Duration::from_secs(42));
        assert_eq!(hinted(Duration::ZERO), Duration::from_secs(1));
        assert_eq!(hinted(minutes(600)), minutes(60));
    }

    #[test]
    fn schedule_run_starts_again_when_the_inputs_change() {
        let problem = || Problem::new(Reason::RegistryUnauthorized, "m");
        let mut run = FailureRun::after(None, "one", problem(), now(), 0.0);
        for _ in 0..5 {
            run = FailureRun::after(Some(&run), "one", problem(), run.next_at, 0.0);
        }
        assert_eq!(run.attempts, 6);
        let other = FailureRun::after(Some(&run), "other", problem(), run.next_at, 0.0);
        assert_eq!(other.attempts, 1);
        assert_eq!(elapsed(run.next_at, other.next_at), WAITING_FIRST);
    }

    /// A clock that is 10 min ahead of the broker's asks for each renewal 10 min before it is due.
    #[test]
    fn schedule_refresh_by_a_clock_that_is_ahead_is_asked_for_a_few_times_a_life() {
        for draw in [0.0, 0.5, 0.999] {
            let (due, end) = (now() + 41.minutes(), now() + 75.minutes());
            let (mut time, mut asked) = (due, 0);
            while time < due + 10.minutes() {
                time = refresh_at(due, end, time, draw);
                asked += 1;
            }
            assert!((3..=7).contains(&asked), "{asked} times");
            assert!(time < due + 14.minutes(), "{time}");
        }
    }

    proptest! {
        #[test]
        fn schedule_never_is_a_hot_loop(position in 0..Reason::ALL.len(), draw in 0.0..1.0_f64, attempts in 1..40_u32) {
            let (mut time, mut run) = (now(), None);
            for _ in 0..attempts {
                let next = FailureRun::after(run.as_ref(), "i", Problem::new(Reason::ALL[position], "m"), time, draw);
                let wait = elapsed(time, next.next_at);
                prop_assert!(wait >= Duration::from_secs(1) && wait <= LONGEST);
                time = next.next_at;
                run = Some(next);
            }
        }

        #[test]
        fn schedule_refresh_lies_in_the_future_and_before_the_end(
            due in -600_i64..3_600, life in 5_i64..7_200, draw in 0.0..1.0_f64
        ) {
            let (due, end) = (now() + SignedDuration::from_secs(due), now() + SignedDuration::from_secs(life));
            let at = refresh_at(due, end, now(), draw);
            prop_assert!(at > now());
            prop_assert!(at >= due);
            if due < end {
                prop_assert!(at < end);
            }
        }
    }
}
