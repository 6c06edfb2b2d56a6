//! Calls to one registry against the budget that the broker keeps for it (guarantees U4 and U8), by the log of the simulated
//! Azure. Pure.

use std::time::Duration;

use azure_simulator::Calls;

/// Calls that may start at once after a pause ...
pub(crate) const BURST: f64 = 2_000.0;
/// ... and from then on, per second.
const PER_SECOND: f64 = 100.0;
/// Calls that may be in flight.
pub(crate) const IN_FLIGHT: f64 = 32.0;

/// What a registry saw of a broker at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Starts {
    /// Calls in all.
    pub(crate) calls: f64,
    /// Calls that started within one second.
    pub(crate) in_a_second: f64,
    /// How far the burst was used up.
    pub(crate) of_the_burst: f64,
    /// Calls that were open together.
    pub(crate) in_flight: f64,
}

impl Starts {
    /// Of the calls to one host.
    pub(crate) fn of(calls: &Calls) -> Self {
        let since_first = |at: jiff::Timestamp| {
            let first = calls.entries().first().map_or(at, |first| first.at_real);
            Duration::try_from(at.duration_since(first)).unwrap_or_default()
        };
        let mut starts: Vec<Duration> = calls
            .entries()
            .iter()
            .map(|entry| since_first(entry.at_real))
            .collect();
        starts.sort_unstable();
        Self {
            calls: count(starts.len()),
            in_a_second: count(most_within(&starts, Duration::from_secs(1))),
            of_the_burst: most_of_the_burst(&starts),
            in_flight: count(calls.max_concurrency()),
        }
    }
}

/// The most of these ordered times in any window of this length.
fn most_within(starts: &[Duration], window: Duration) -> usize {
    let mut begin = 0;
    let mut most = 0;
    for (end, at) in starts.iter().enumerate() {
        while starts.get(begin).is_some_and(|first| *first + window <= *at) {
            begin += 1;
        }
        most = most.max(end + 1 - begin);
    }
    most
}

/// The least burst with which a bucket that refills at the rate of the budget lets all of these ordered times through.
fn most_of_the_burst(starts: &[Duration]) -> f64 {
    let (mut used, mut most, mut last) = (0.0_f64, 0.0_f64, Duration::ZERO);
    for at in starts {
        let refilled = at.saturating_sub(last).as_secs_f64() * PER_SECOND;
        used = (used - refilled).max(0.0) + 1.0;
        most = most.max(used);
        last = *at;
    }
    most
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a short run are far below 2^52"
)]
fn count(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(step: Duration, count: u32) -> Vec<Duration> {
        (0..count).map(|number| step * number).collect()
    }

    #[test]
    fn starts_within_a_window_are_counted_at_its_fullest() {
        let mut starts = every(Duration::from_millis(100), 20);
        assert_eq!(most_within(&starts, Duration::from_secs(1)), 10);
        starts.extend([Duration::from_millis(1_901); 5]);
        assert_eq!(most_within(&starts, Duration::from_secs(1)), 15);
    }

    #[test]
    fn burst_is_what_exceeds_the_rate() {
        let is = |starts: &[Duration], expected: f64| (most_of_the_burst(starts) - expected).abs() < 1e-6;
        assert!(is(&every(Duration::from_millis(10), 1_000), 1.0));
        assert!(is(&every(Duration::ZERO, 700), 700.0));
        // Twice the rate for ten seconds.
        assert!((most_of_the_burst(&every(Duration::from_millis(5), 2_000)) - 1_000.5).abs() < 1.0);
    }
}
