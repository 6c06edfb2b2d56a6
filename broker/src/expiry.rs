//! When a token is good, when it is renewed, how long a failure is remembered. Pure: `now` and chance are arguments.

use std::time::{Duration, SystemTime};

use proto::catalogue::RetryClass;

/// No token with less left is ever handed out: it could expire between here and the pull.
pub const FLOOR: Duration = Duration::from_secs(60);
/// A token this young satisfies any wish: there is no better one to be had. Also the least time between two renewals
/// that a caller can cause.
pub const YOUNG: Duration = Duration::from_secs(60);
/// Least share of the lifetime that must remain, unless the caller says otherwise.
const DEFAULT_MIN_REMAINING: f64 = 0.33;
/// Largest share that a caller may ask for; more would renew tokens that have just been renewed.
const MAX_MIN_REMAINING: f64 = 0.5;
/// The refresh point lies in this part of the lifetime, drawn once per token, so that tokens issued together are not
/// renewed together.
const REFRESH_EARLIEST: f64 = 0.50;
const REFRESH_LATEST: f64 = 0.65;

/// A waiting failure heals within a minute in this time after the first one ...
const WAITING_PATIENCE: Duration = Duration::from_secs(15 * 60);
const WAITING_FIRST: Duration = Duration::from_secs(15);
const WAITING_CAP: Duration = Duration::from_secs(60);
/// ... and within this after it.
const SLOW_CAP: Duration = Duration::from_secs(15 * 60);
const PERMANENT_FIRST: Duration = Duration::from_secs(30);
/// Entra's own answer to over-use carries 60 s; assumed where no header says (guarantee U1).
const THROTTLED_DEFAULT: Duration = Duration::from_secs(60);
/// A longer Retry-After is a mistake or an attack.
const THROTTLED_CAP: Duration = Duration::from_secs(3600);
const TRANSIENT_FIRST: Duration = Duration::from_secs(1);
const TRANSIENT_CAP: Duration = Duration::from_secs(60);

/// The times of one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// When it came.
    pub received_at: SystemTime,
    /// Its own `exp`.
    pub expires_at: SystemTime,
    /// When to renew it.
    pub refresh_at: SystemTime,
}

/// A remembered failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negative {
    /// Of the last one. Another class begins a new row.
    pub class: RetryClass,
    /// In a row, this one included.
    pub failures: u32,
    /// The first of the row.
    pub first_failed_at: SystemTime,
    /// Until when Azure is not asked again.
    pub retry_at: SystemTime,
    /// When a caller last forced its way past it.
    pub forced_at: Option<SystemTime>,
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

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Hand out the token.
    Serve,
    /// Hand out the token, and renew it in the background.
    ServeAndRefresh,
    /// Ask Azure and wait. If that fails, the token is handed out as long as it may be.
    Fetch,
    /// Azure said no and is not asked again yet; hand out the token if there is one that may be.
    Remembered,
}

impl Lifetime {
    /// The times of a token that came at `received_at`; `chance` in [0, 1) places its refresh point.
    pub fn new(received_at: SystemTime, expires_at: SystemTime, chance: f64) -> Self {
        let total = expires_at.duration_since(received_at).unwrap_or_default();
        let share = REFRESH_EARLIEST + (REFRESH_LATEST - REFRESH_EARLIEST) * chance;
        Self {
            received_at,
            expires_at,
            refresh_at: received_at + total.mul_f64(share),
        }
    }

    /// Lifetime: `exp` minus the time of receipt.
    pub fn total(&self) -> Duration {
        self.expires_at
            .duration_since(self.received_at)
            .unwrap_or_default()
    }

    /// What is left of it.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.expires_at.duration_since(now).unwrap_or_default()
    }

    /// Whether it may be handed out at all.
    pub fn is_usable(&self, now: SystemTime) -> bool {
        self.remaining(now) >= FLOOR
    }

    /// Whether as much is left as the caller needs.
    pub fn satisfies(&self, min_remaining: Option<Duration>, now: SystemTime) -> bool {
        let needed = min_remaining
            .unwrap_or_else(|| self.total().mul_f64(DEFAULT_MIN_REMAINING))
            .min(self.total().mul_f64(MAX_MIN_REMAINING));
        self.is_usable(now) && (self.is_young(now) || self.remaining(now) >= needed)
    }

    fn is_young(&self, now: SystemTime) -> bool {
        now.duration_since(self.received_at).is_ok_and(|age| age < YOUNG)
    }
}

/// Decides what a request gets, given what the cache holds.
pub fn decide(
    token: Option<&Lifetime>,
    negative: Option<&Negative>,
    need: &Need,
    now: SystemTime,
) -> Decision {
    let is_blocked = negative.is_some_and(|negative| {
        // A time in the future is a clock that was set back: it blocks nobody.
        let was_just_forced = negative
            .forced_at
            .is_some_and(|at| now.duration_since(at).is_ok_and(|since| since < YOUNG));
        let is_ahead = negative
            .retry_at
            .duration_since(now)
            .is_ok_and(|wait| !wait.is_zero() && wait <= THROTTLED_CAP);
        is_ahead && (!need.force || was_just_forced)
    });
    let blocked_or = |decision| {
        if is_blocked {
            Decision::Remembered
        } else {
            decision
        }
    };
    let Some(token) = token.filter(|token| token.is_usable(now)) else {
        return blocked_or(Decision::Fetch);
    };
    if (need.force || need.rejected_current) && !token.is_young(now) {
        return blocked_or(Decision::Fetch);
    }
    if !token.satisfies(need.min_remaining, now) {
        return blocked_or(Decision::Fetch);
    }
    if now < token.refresh_at {
        return Decision::Serve;
    }
    match (is_blocked, need.has_current) {
        (true, true) => Decision::Remembered,
        (true, false) => Decision::Serve,
        (false, true) => Decision::Fetch,
        (false, false) => Decision::ServeAndRefresh,
    }
}

/// What is remembered after one more failure. `chance` in [0, 1) spreads retries after transient ones.
pub fn after_failure(
    before: Option<&Negative>,
    class: RetryClass,
    retry_after: Option<Duration>,
    forced: bool,
    now: SystemTime,
    chance: f64,
) -> Negative {
    let forced_before = before.and_then(|negative| negative.forced_at);
    // A row ends when something else goes wrong, and when nobody asked for long.
    let before = before.filter(|negative| {
        let is_old = now
            .duration_since(negative.retry_at)
            .is_ok_and(|since| since > SLOW_CAP);
        negative.class == class && !is_old
    });
    let failures = before.map_or(1, |negative| negative.failures.saturating_add(1));
    let first_failed_at = before.map_or(now, |negative| negative.first_failed_at);
    let since_first = now.duration_since(first_failed_at).unwrap_or_default();
    let wait = match class {
        RetryClass::Waiting if since_first < WAITING_PATIENCE => {
            doubled(WAITING_FIRST, failures, WAITING_CAP)
        }
        // From two minutes on, as long again as has passed since patience ran out: that doubles.
        RetryClass::Waiting => since_first
            .saturating_sub(WAITING_PATIENCE)
            .clamp(2 * WAITING_CAP, SLOW_CAP),
        RetryClass::Permanent => doubled(PERMANENT_FIRST, failures, SLOW_CAP),
        RetryClass::Throttled => retry_after.unwrap_or(THROTTLED_DEFAULT).min(THROTTLED_CAP),
        RetryClass::Transient | RetryClass::Denied | RetryClass::Caller => {
            let backoff = doubled(TRANSIENT_FIRST, failures, TRANSIENT_CAP)
                .mul_f64(chance)
                .max(TRANSIENT_FIRST / 4);
            backoff.max(retry_after.unwrap_or_default().min(THROTTLED_CAP))
        }
    };
    let forced_at = if forced { Some(now) } else { forced_before };
    Negative {
        class,
        failures,
        first_failed_at,
        retry_at: now + wait,
        forced_at,
    }
}

/// `first`, twice that, four times, up to `cap`.
fn doubled(first: Duration, failures: u32, cap: Duration) -> Duration {
    first
        .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16)))
        .min(cap)
}

#[cfg(test)]
mod tests;
