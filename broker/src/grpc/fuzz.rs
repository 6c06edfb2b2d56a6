//! `grpc-timeout` is the caller's: any text at all.

use hostile::{fuzz, text};

use super::*;

#[test]
fn fuzz_grpc_timeout_is_eight_digits_and_a_unit() {
    fuzz(text(&["20S", "99999999H", "250m", "1n"]), |text| {
        let Ok(value) = text.parse() else { return };
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", value);
        let Some(deadline) = deadline(&headers) else {
            return;
        };
        let (digits, unit) = text.split_at(text.len() - 1);
        assert!(
            (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()),
            "{text:?}"
        );
        let nanos_per_unit: u128 = match unit {
            "H" => 3_600_000_000_000,
            "M" => 60_000_000_000,
            "S" => 1_000_000_000,
            "m" => 1_000_000,
            "u" => 1_000,
            "n" => 1,
            other => panic!("{other} is no unit"),
        };
        assert_eq!(
            deadline.as_nanos(),
            digits.parse::<u128>().unwrap() * nanos_per_unit
        );
    });
}
