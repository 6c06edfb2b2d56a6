//! Wall-clock times and spans, to and from the messages.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pbjson_types::Timestamp;

/// A time as a message carries it. Times before 1970 do not occur; they become 1970.
pub fn to_timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

/// The time in a message; none if it lies before 1970 or is no time at all.
pub fn from_timestamp(timestamp: &Timestamp) -> Option<SystemTime> {
    let since = span(timestamp.seconds, timestamp.nanos)?;
    UNIX_EPOCH.checked_add(since)
}

/// The span in a message; none if it is negative.
pub fn from_duration(duration: &pbjson_types::Duration) -> Option<Duration> {
    span(duration.seconds, duration.nanos)
}

fn span(seconds: i64, nanos: i32) -> Option<Duration> {
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_reads_back_as_itself() {
        let at = UNIX_EPOCH + Duration::new(1_795_000_000, 250_000_000);
        assert_eq!(from_timestamp(&to_timestamp(at)), Some(at));
    }

    #[test]
    fn timestamp_that_is_no_time_is_none() {
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            assert_eq!(
                from_timestamp(&Timestamp { seconds, nanos }),
                None,
                "{seconds} {nanos}"
            );
        }
    }
}
