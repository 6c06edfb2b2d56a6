//! When a token is good, when it is renewed, whether Azure is asked. Pure: `now` and chance are arguments.
//!
//! What is left of a token is measured by two clocks, and the smaller answer counts: a time of day that was set back
//! must not bring a dead token to life, and a monotonic clock that slept with its machine must not either.

mod retry;

use std::time::{Duration, SystemTime};

use runtime::Moment;

pub use retry::{Negative, after_failure};

/// No token with less left is ever handed out: it could expire between here and the pull.
pub const FLOOR: Duration = Duration::from_secs(60);
/// A token this young satisfies any wish: there is no better one to be had.
pub const YOUNG: Duration = Duration::from_secs(60);
/// Callers can cause one renewal of a key in this time, whatever they report (guarantee C5).
pub const CAUSED_PERIOD: Duration = Duration::from_secs(60);
/// Least share of the lifetime that must remain, unless the caller says otherwise.
const DEFAULT_MIN_REMAINING: f64 = 0.33;
/// Largest share that a caller may ask for; more would renew tokens that have just been renewed.
const MAX_MIN_REMAINING: f64 = 0.5;
/// The refresh point lies in this part of the lifetime, drawn once per token, so that tokens issued together are not
/// renewed together.
const REFRESH_EARLIEST: f64 = 0.50;
const REFRESH_LATEST: f64 = 0.65;
/// A renewal that brought nothing newer is tried again after this long, or a twentieth of the lifetime.
const NO_NEWER_TOKEN: Duration = Duration::from_secs(60);

/// The times of one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    received: Moment,
    expires_at: SystemTime,
    /// Age at which it is renewed.
    refresh_age: Duration,
}

/// What is asked of a cached token.
#[derive(Debug, Clone, Copy, Default)]
pub struct Need {
    /// The least time that must remain.
    pub min_remaining: Option<Duration>,
    /// The caller has this very token already: past its refresh point only a newer one is of use.
    pub has_current: bool,
    /// The registry refused this very token.
    pub rejected_current: bool,
    /// Past a remembered failure, and past a token that is not young.
    pub force: bool,
}

/// What is known of a key besides its token.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record {
    /// The failures since the last success.
    pub negative: Option<Negative>,
    /// When a caller last caused a fetch that would not have been made otherwise. Monotonic.
    pub caused_at: Option<Duration>,
    /// No renewal before this unless a caller needs or causes one: the last one brought nothing newer, or failed in a
    /// cache below. Monotonic.
    pub quiet_until: Option<Duration>,
}

impl Record {
    /// Until when Azure is not asked for a newer token, if anything stands in the way.
    pub fn not_before(&self) -> Option<Duration> {
        self.negative
            .map(|negative| negative.retry_at)
            .max(self.quiet_until)
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Hand out the token.
    Serve,
    /// Hand out the token, and renew it in the background.
    ServeAndRefresh,
    /// Ask Azure and wait. If that fails, the token is handed out as long as it may be.
    Fetch,
    /// Ask Azure and wait, because a caller insists: nobody can again for a while.
    FetchCaused,
    /// Azure said no and is not asked again yet; hand out the token if there is one that may be.
    Remembered,
}

impl Lifetime {
    /// The times of a token that came at `received`; `chance` in [0, 1) places its refresh point.
    pub fn new(received: Moment, expires_at: SystemTime, chance: f64) -> Self {
        let total = expires_at.duration_since(received.wall).unwrap_or_default();
        let share = REFRESH_EARLIEST + (REFRESH_LATEST - REFRESH_EARLIEST) * chance;
        Self {
            received,
            expires_at,
            refresh_age: total.mul_f64(share),
        }
    }

    /// Its own `exp`.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Lifetime: `exp` minus the time of receipt.
    pub fn total(&self) -> Duration {
        self.expires_at
            .duration_since(self.received.wall)
            .unwrap_or_default()
    }

    /// What is left of it, by the clock that leaves less.
    pub fn remaining(&self, now: Moment) -> Duration {
        let by_wall = self.expires_at.duration_since(now.wall).unwrap_or_default();
        let passed = now.monotonic.saturating_sub(self.received.monotonic);
        by_wall.min(self.total().saturating_sub(passed))
    }

    /// How much of it is used up, by the clock that says more.
    pub fn age(&self, now: Moment) -> Duration {
        self.total().saturating_sub(self.remaining(now))
    }

    /// Whether it may be handed out at all.
    pub fn is_usable(&self, now: Moment) -> bool {
        self.remaining(now) >= FLOOR
    }

    /// Whether its refresh point has passed.
    pub fn is_due(&self, now: Moment) -> bool {
        self.age(now) >= self.refresh_age
    }

    /// Age at which it is renewed.
    pub fn refresh_period(&self) -> Duration {
        self.refresh_age
    }

    /// The refresh point as a time of day; in the past once it is due.
    pub fn refresh_at(&self, now: Moment) -> SystemTime {
        let age = self.age(now);
        match self.refresh_age.checked_sub(age) {
            Some(ahead) => now.wall + ahead,
            None => now.wall - age.saturating_sub(self.refresh_age),
        }
    }

    /// Whether as much is left as the caller needs.
    pub fn satisfies(&self, min_remaining: Option<Duration>, now: Moment) -> bool {
        let left = self.remaining(now);
        left >= FLOOR && (self.is_young(now) || self.would_suffice(left, min_remaining))
    }

    /// Whether `left` of a token with this lifetime is as much as the caller needs.
    pub fn would_suffice(&self, left: Duration, min_remaining: Option<Duration>) -> bool {
        let total = self.total();
        let needed = min_remaining
            .unwrap_or_else(|| total.mul_f64(DEFAULT_MIN_REMAINING))
            .min(total.mul_f64(MAX_MIN_REMAINING));
        left >= needed
    }

    /// The same token after a renewal that brought nothing newer, and how long none is tried: never longer than half of
    /// what is left.
    #[must_use]
    pub fn not_renewed(self, now: Moment) -> (Self, Duration) {
        let pause = NO_NEWER_TOKEN.max(self.total() / 20).min(self.remaining(now) / 2);
        let lifetime = Self {
            refresh_age: self.age(now) + pause,
            ..self
        };
        (lifetime, pause)
    }

    fn is_young(&self, now: Moment) -> bool {
        self.age(now) < YOUNG
    }
}

/// Decides what a request gets, given what the cache holds.
pub fn decide(token: Option<&Lifetime>, record: &Record, need: &Need, now: Moment) -> Decision {
    let is_ahead = |at: Option<Duration>| at.is_some_and(|at| at > now.monotonic);
    let is_blocked = is_ahead(record.negative.map(|negative| negative.retry_at));
    let may_cause = record
        .caused_at
        .is_none_or(|at| now.monotonic >= at.saturating_add(CAUSED_PERIOD));
    let blocked_or = |decision| match (is_blocked, need.force && may_cause) {
        (false, _) => decision,
        (true, true) => Decision::FetchCaused,
        (true, false) => Decision::Remembered,
    };
    let Some(token) = token.filter(|token| token.is_usable(now)) else {
        return blocked_or(Decision::Fetch);
    };
    let is_insistent = (need.force || need.rejected_current) && !token.is_young(now);
    if is_insistent && may_cause {
        return blocked_or(Decision::FetchCaused);
    }
    if !token.satisfies(need.min_remaining, now) {
        // Nothing newer was to be had a moment ago.
        return if is_ahead(record.quiet_until) {
            Decision::Serve
        } else {
            blocked_or(Decision::Fetch)
        };
    }
    if !token.is_due(now) {
        return Decision::Serve;
    }
    match (is_blocked, need.has_current) {
        (true, true) => Decision::Remembered,
        (true, false) => Decision::Serve,
        (false, true) => Decision::Fetch,
        (false, false) if is_ahead(record.quiet_until) => Decision::Serve,
        (false, false) => Decision::ServeAndRefresh,
    }
}

#[cfg(test)]
mod tests;
