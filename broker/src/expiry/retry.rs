//! How long a failure is remembered, by its class. Pure; times are monotonic, so that setting the clock frees nobody and
//! blocks nobody.

use std::time::Duration;

use proto::catalogue::RetryClass;

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
/// A renewal is tried this often on the backoff above; then nothing is gained by hurry, for the old token is good
/// (guarantee U2) ...
const HURRIED_RENEWALS: u32 = 3;
/// ... and the next try comes after this share of what is left of it.
const UNHURRIED: (f64, f64) = (0.3, 0.5);

/// A row of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negative {
    /// Of the last one. Another class begins a new row.
    pub class: RetryClass,
    /// In a row, this one included.
    pub failures: u32,
    /// The first of the row.
    pub first_failed_at: Duration,
    /// Until when Azure is not asked again.
    pub retry_at: Duration,
}

/// What is remembered after one more failure. `left` is what the token in hand may still be used for; `chance` in [0, 1)
/// spreads retries after transient failures.
pub fn after_failure(
    before: Option<&Negative>,
    class: RetryClass,
    retry_after: Option<Duration>,
    left: Option<Duration>,
    now: Duration,
    chance: f64,
) -> Negative {
    // A row ends when something else goes wrong, and when nobody asked for long.
    let before = before.filter(|negative| {
        let idle = now.saturating_sub(negative.retry_at);
        negative.class == class && idle <= SLOW_CAP
    });
    let failures = before.map_or(1, |negative| negative.failures.saturating_add(1));
    let first_failed_at = before.map_or(now, |negative| negative.first_failed_at);
    let since_first = now.saturating_sub(first_failed_at);
    let told = retry_after.map(|wait| wait.min(THROTTLED_CAP));
    let wait = match class {
        RetryClass::Waiting if since_first < WAITING_PATIENCE => {
            doubled(WAITING_FIRST, failures, WAITING_CAP)
        }
        // From two minutes on, as long again as has passed since patience ran out: that doubles.
        RetryClass::Waiting => since_first
            .saturating_sub(WAITING_PATIENCE)
            .clamp(2 * WAITING_CAP, SLOW_CAP),
        RetryClass::Permanent => doubled(PERMANENT_FIRST, failures, SLOW_CAP),
        RetryClass::Throttled => told.unwrap_or(THROTTLED_DEFAULT),
        RetryClass::Transient | RetryClass::Denied | RetryClass::Caller => {
            let backoff = doubled(2 * TRANSIENT_FIRST, failures, TRANSIENT_CAP)
                .mul_f64(chance)
                .max(TRANSIENT_FIRST);
            let unhurried = left.filter(|_left| failures >= HURRIED_RENEWALS).map(|left| {
                let (least, most) = UNHURRIED;
                left.mul_f64(least + (most - least) * chance)
            });
            // Whoever says when to come back knows better than any rule.
            told.unwrap_or(backoff).max(unhurried.unwrap_or_default())
        }
    };
    Negative {
        class,
        failures,
        first_failed_at,
        retry_at: now.saturating_add(wait),
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
