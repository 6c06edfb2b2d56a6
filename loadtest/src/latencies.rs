//! How long many requests took, and any quantile of that.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Digits of latencies that are kept.
const DIGITS: u8 = 3;

/// Latencies, in microseconds.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new(DIGITS)?))
    }

    /// One more.
    pub(crate) fn record(&mut self, latency: Duration) -> anyhow::Result<()> {
        Ok(self.0.record(u64::try_from(latency.as_micros())?)?)
    }

    /// As many more as `others` are.
    pub(crate) fn add(&mut self, others: &Self) -> anyhow::Result<()> {
        Ok(self.0.add(&others.0)?)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The one that this part of all does not exceed, in milliseconds.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of a short run are far below 2^52"
    )]
    pub(crate) fn ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_quantiles_are_in_milliseconds() {
        let mut all = Latencies::new().unwrap();
        for ms in 1..=100 {
            all.record(Duration::from_millis(ms)).unwrap();
        }
        assert_eq!(all.count(), 100);
        assert!((all.ms(0.5) - 50.0).abs() < 0.1, "{}", all.ms(0.5));
        assert!((all.ms(0.99) - 99.0).abs() < 0.1, "{}", all.ms(0.99));
    }
}
