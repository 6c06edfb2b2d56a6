//! `Retry-After` of a throttled answer, in every form that clients have to cope with.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::http_date;

/// How far ahead an HTTP date in `Retry-After` is.
const HTTP_DATE_AHEAD_S: i64 = 30;

/// `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RetryAfter {
    /// Seconds, sensible or not.
    Seconds(i64),
    /// Something else.
    Text(RetryAfterText),
}

/// `Retry-After` that is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryAfterText {
    /// An HTTP date 30 s ahead.
    HttpDate,
    /// Nothing that can be parsed.
    Garbage,
}

/// A throttled answer's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Throttle {
    pub(crate) retry_after: Option<RetryAfter>,
    pub(crate) countdown: bool,
    pub(crate) first_hit_at: Timestamp,
}

impl Throttle {
    /// The header's value at `real`, the time of the source.
    pub(crate) fn header(self, real: Timestamp) -> Option<String> {
        match self.retry_after? {
            RetryAfter::Seconds(seconds) if self.countdown => {
                let passed = real.as_second() - self.first_hit_at.as_second();
                Some((seconds - passed).max(0).to_string())
            }
            RetryAfter::Seconds(seconds) => Some(seconds.to_string()),
            RetryAfter::Text(RetryAfterText::Garbage) => Some("soon".to_owned()),
            RetryAfter::Text(RetryAfterText::HttpDate) => {
                let at = Timestamp::from_second(real.as_second() + HTTP_DATE_AHEAD_S).ok()?;
                http_date(at)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Action;

    fn header(json: &str, passed: i64) -> Option<String> {
        let Action::Throttle {
            retry_after,
            countdown,
        } = serde_json::from_str(json).unwrap()
        else {
            panic!("{json} is no throttle");
        };
        let first_hit_at = Timestamp::from_second(1_000_000_000).unwrap();
        let real = Timestamp::from_second(1_000_000_000 + passed).unwrap();
        Throttle {
            retry_after,
            countdown,
            first_hit_at,
        }
        .header(real)
    }

    #[test]
    fn throttle_takes_every_form_of_retry_after() {
        assert_eq!(
            header(r#"{"type":"throttle","retry_after":7}"#, 3).as_deref(),
            Some("7")
        );
        assert_eq!(
            header(r#"{"type":"throttle","retry_after":-1}"#, 0).as_deref(),
            Some("-1")
        );
        assert_eq!(
            header(r#"{"type":"throttle","retry_after":"garbage"}"#, 0).as_deref(),
            Some("soon")
        );
        assert_eq!(header(r#"{"type":"throttle","retry_after":null}"#, 0), None);
        assert_eq!(
            header(r#"{"type":"throttle","retry_after":"http-date"}"#, 0).as_deref(),
            Some("Sun, 09 Sep 2001 01:47:10 GMT")
        );
    }

    #[test]
    fn throttle_counts_down_to_zero() {
        let json = r#"{"type":"throttle","retry_after":60,"countdown":true}"#;
        assert_eq!(header(json, 10).as_deref(), Some("50"));
        assert_eq!(header(json, 90).as_deref(), Some("0"));
    }
}
