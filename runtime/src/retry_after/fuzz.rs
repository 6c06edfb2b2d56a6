//! Headers as a server may write them.

use std::time::UNIX_EPOCH;

use hostile::{fuzz, text};

use super::*;

const HEADERS: [&str; 3] = ["120", "Wed, 21 Oct 2026 07:28:00 GMT", "soon"];

fn header(name: &'static str, text: &str, headers: &mut HeaderMap) {
    if let Ok(value) = text.parse() {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Guarantee U1: whatever the header says, a wait is bounded, and a wait that is readable is kept.
#[test]
fn fuzz_retry_after_u1_is_bounded() {
    fuzz((text(&HEADERS), text(&HEADERS)), |(wait, date)| {
        let mut headers = HeaderMap::new();
        header("retry-after", &wait, &mut headers);
        header("date", &date, &mut headers);
        let read = retry_after(&headers, UNIX_EPOCH);
        assert!(read.is_none_or(|read| read <= LONGEST));
        let readable = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let digits = readable.unwrap_or_default().trim();
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        if let (Ok(seconds), true) = (digits.parse::<u64>(), is_number) {
            assert_eq!(read, Some(Duration::from_secs(seconds).min(LONGEST)));
        }
    });
}
