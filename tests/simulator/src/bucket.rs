//! A token bucket, for the rate limits of IMDS and of registries.

use jiff::Timestamp;

/// How much is left, and when that was.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    /// What is missing from a full bucket, in requests.
    used: f64,
    at: Option<Timestamp>,
}

impl Bucket {
    /// Takes one request out of a bucket of `capacity` that refills `per_second`, or says how many seconds to
    /// wait.
    pub(crate) fn take(&mut self, capacity: f64, per_second: f64, now: Timestamp) -> Result<(), f64> {
        let passed = self
            .at
            .map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
        self.at = Some(now);
        self.used = (self.used - passed * per_second).max(0.0);
        if self.used + 1.0 > capacity {
            return Err((self.used + 1.0 - capacity) / per_second);
        }
        self.used += 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_empties_and_refills() {
        let mut bucket = Bucket::default();
        let at = |ms: i64| Timestamp::from_millisecond(1_000_000 + ms).unwrap();
        assert_eq!(bucket.take(2.0, 1.0, at(0)), Ok(()));
        assert_eq!(bucket.take(2.0, 1.0, at(0)), Ok(()));
        assert_eq!(bucket.take(2.0, 1.0, at(0)), Err(1.0));
        assert_eq!(bucket.take(2.0, 1.0, at(500)), Err(0.5));
        assert_eq!(bucket.take(2.0, 1.0, at(1_000)), Ok(()));
    }
}
