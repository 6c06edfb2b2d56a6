//! Retry-After in either form (RFC 9110 section 10.2.3): how long a server asks to be left alone. What is made of it is up
//! to whoever asked.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName,
    header::{DATE, RETRY_AFTER},
};

/// A longer one is a mistake or an attack (guarantee U1).
pub const LONGEST: Duration = Duration::from_secs(3600);

/// How long to wait, if the headers say so. A date is read against the answer's own `Date`, so that a clock that is
/// off, theirs or ours, does not matter; only without that against `now`.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let date = |name: HeaderName| httpdate::parse_http_date(text(name)?).ok();
    let value = text(RETRY_AFTER)?;
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        // Too many digits for a number are too many seconds for any wait.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        date(RETRY_AFTER)?
            .duration_since(date(DATE).unwrap_or(now))
            .unwrap_or_default()
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn wait(pairs: &[(HeaderName, &str)]) -> Option<Duration> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect();
        // 2026-11-21 10:00:30.
        retry_after(&headers, UNIX_EPOCH + Duration::from_secs(1_795_255_230))
    }

    #[test]
    fn u1_retry_after_is_read_in_both_forms_and_capped() {
        let date = (DATE, "Sat, 21 Nov 2026 10:00:00 GMT");
        for (value, seconds) in [
            ("7", 7),
            (" 7 ", 7),
            ("0", 0),
            ("99999", 3600),
            ("99999999999999999999999", 3600),
            ("Sat, 21 Nov 2026 10:01:30 GMT", 90),
            ("Sat, 21 Nov 2026 09:00:00 GMT", 0),
            ("Fri, 21 Nov 2036 09:00:00 GMT", 3600),
        ] {
            let expected = Some(Duration::from_secs(seconds));
            assert_eq!(wait(&[(RETRY_AFTER, value), date.clone()]), expected, "{value}");
        }
        for garbage in ["", "soon", "-1", "+5", "1.5", "7s"] {
            assert_eq!(wait(&[(RETRY_AFTER, garbage), date.clone()]), None, "{garbage}");
        }
        assert_eq!(wait(&[date]), None);
    }

    #[test]
    fn u1_retry_after_date_is_read_against_our_clock_where_the_answer_has_none() {
        assert_eq!(
            wait(&[(RETRY_AFTER, "Sat, 21 Nov 2026 10:01:30 GMT")]),
            Some(Duration::from_secs(60))
        );
    }

    proptest! {
        #[test]
        fn u1_retry_after_never_exceeds_an_hour(value in "[ -~]{0,40}") {
            prop_assert!(wait(&[(RETRY_AFTER, &value)]).unwrap_or_default() <= LONGEST);
        }
    }
}
