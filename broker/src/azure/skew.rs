//! How far our clock and Azure's are apart, by the `Date` of its answers.
//!
//! Measured and reported, and used in one direction only: a token whose expiry is a time of day ends earlier where our
//! clock is behind, so that none is handed out that Azure no longer accepts. Where our clock is ahead, tokens end early
//! anyway; to make them last longer would trust a header more than the token.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, header::DATE};
use tokio::time::Instant;

use super::gate::HostKind;

/// Worth a word to people; Kubernetes and Azure tolerate less than five minutes.
const WARN_ABOVE_S: f64 = 120.0;
/// Below this it is the time that answers take, and the floor before every expiry is six times that.
const NOISE_S: f64 = 10.0;
/// One line per kind of host in this time.
const WARN_EVERY: Duration = Duration::from_secs(600);
/// `Date` counts whole seconds: on average it is half of one behind.
const HALF_A_SECOND: f64 = 0.5;

/// By how many seconds a host's clock is ahead of ours.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Skew(pub(super) f64);

/// When each kind of host was last warned about.
#[derive(Debug, Default)]
pub(super) struct SkewLog(Mutex<BTreeMap<HostKind, Instant>>);

impl Skew {
    /// The host wrote its date at some time between `sent_at` and `received_at`; the middle is the best guess.
    pub(super) fn measure(headers: &HeaderMap, sent_at: SystemTime, received_at: SystemTime) -> Option<Self> {
        let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
        let trip = received_at.duration_since(sent_at).unwrap_or_default();
        let ours = sent_at + trip / 2;
        let ahead = match date.duration_since(ours) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        };
        Some(Self(ahead + HALF_A_SECOND))
    }

    /// By how much lives of tokens are shortened.
    pub(super) fn ahead(self) -> Duration {
        above(NOISE_S, self.0)
    }

    /// By how much our clock is ahead, if that is worth a word. Explains, and changes nothing.
    pub(super) fn behind(self) -> Duration {
        above(WARN_ABOVE_S, -self.0)
    }
}

/// Nothing, unless it is more than `least_s`.
fn above(least_s: f64, seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|_valid| seconds > least_s)
        .unwrap_or_default()
}

impl SkewLog {
    /// Warns, unless it has just done so.
    pub(super) fn observe(&self, kind: HostKind, skew: Skew, now: Instant) {
        if self.is_due(kind, skew, now) {
            tracing::warn!(
                upstream = kind.as_str(),
                skew_seconds = skew.0,
                "this machine's clock and Azure's are apart: tokens may be refused, or handed out too late"
            );
        }
    }

    fn is_due(&self, kind: HostKind, Skew(skew_seconds): Skew, now: Instant) -> bool {
        if skew_seconds.abs() <= WARN_ABOVE_S {
            return false;
        }
        let mut warned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = warned
            .get(&kind)
            .is_none_or(|last| now.saturating_duration_since(*last) >= WARN_EVERY);
        if is_due {
            warned.insert(kind, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn skew_is_the_date_against_the_middle_of_the_trip() {
        let sent_at = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let received_at = sent_at + Duration::from_secs(2);
        for (date_s, skew) in [(1_000_001, 0.5), (1_000_301, 300.5), (999_401, -599.5)] {
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(date_s));
            let headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
            let Skew(found) = Skew::measure(&headers, sent_at, received_at).unwrap();
            assert!((found - skew).abs() < 0.01, "{found}");
        }
        let garbage = HeaderMap::from_iter([(DATE, "yesterday".parse().unwrap())]);
        assert_eq!(Skew::measure(&garbage, sent_at, received_at), None);
        assert_eq!(Skew::measure(&HeaderMap::new(), sent_at, received_at), None);
    }

    #[test]
    fn s7_clock_that_is_behind_shortens_lives_and_one_ahead_does_not() {
        for (skew, shorter_s) in [(3600.0, 3600), (9.9, 0), (-3600.0, 0), (f64::NAN, 0)] {
            assert_eq!(Skew(skew).ahead(), Duration::from_secs(shorter_s));
        }
    }

    #[test]
    fn skew_of_our_clock_is_spoken_of_from_two_minutes_on() {
        for (skew, behind_s) in [(-3600.0, 3600), (-119.0, 0), (3600.0, 0), (f64::NAN, 0)] {
            assert_eq!(Skew(skew).behind(), Duration::from_secs(behind_s));
        }
    }

    #[test]
    fn skew_is_warned_of_every_ten_minutes_per_kind() {
        let (log, now) = (SkewLog::default(), Instant::now());
        assert!(!log.is_due(HostKind::Entra, Skew(119.0), now));
        assert!(log.is_due(HostKind::Entra, Skew(-300.0), now));
        assert!(!log.is_due(HostKind::Entra, Skew(-300.0), now + WARN_EVERY / 2));
        assert!(log.is_due(HostKind::Registry, Skew(300.0), now));
        assert!(log.is_due(HostKind::Entra, Skew(300.0), now + WARN_EVERY));
    }
}
