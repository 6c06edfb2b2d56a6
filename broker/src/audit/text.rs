//! How values are written: one line of JSON, times that sort as text, and no text longer than it needs to be.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// The longest text of a record that nothing else bounds.
const MAX_TEXT_BYTES: usize = 256;

/// RFC 3339 in UTC with milliseconds, always as long.
pub(super) struct Time(pub(super) SystemTime);

/// A text of which a caller or Azure has had the choice: cut, and marked where it was.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Timestamp::try_from(self.0) {
            Ok(time) => serializer.collect_str(&format_args!("{time:.3}")),
            Err(_out_of_range) => serializer.serialize_none(),
        }
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let end = self.0.floor_char_boundary(MAX_TEXT_BYTES);
        match self.0.get(..end) {
            Some(head) if end < self.0.len() => serializer.collect_str(&format_args!("{head}…")),
            Some(_) | None => serializer.serialize_str(self.0),
        }
    }
}

/// One line. JSON escapes what would end it early.
pub(super) fn to_line(record: &impl Serialize) -> Vec<u8> {
    // A usual record, and room: growing would copy it.
    let mut line = Vec::with_capacity(1024);
    let written = serde_json::to_writer(&mut line, record);
    debug_assert!(written.is_ok(), "names are texts, and memory takes every byte");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn o1_times_are_utc_and_sort_as_text() {
        let json = |millis| serde_json::to_string(&Time(UNIX_EPOCH + Duration::from_millis(millis))).unwrap();
        assert_eq!(json(1_795_000_000_000), r#""2026-11-18T11:06:40.000Z""#);
        assert_eq!(json(1_795_000_000_007), r#""2026-11-18T11:06:40.007Z""#);
    }

    #[test]
    fn o1_text_is_cut_between_characters_and_never_breaks_a_line() {
        assert_eq!(serde_json::to_string(&Text("short")).unwrap(), r#""short""#);
        let long = "ä".repeat(200);
        let cut: String = serde_json::from_str(&serde_json::to_string(&Text(&long)).unwrap()).unwrap();
        assert_eq!(cut, format!("{}…", "ä".repeat(128)));
        let line = to_line(&Text("a\n{\"audit\":\"acrpull.dev/v1\"}\r\u{0}\u{2028}"));
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        assert!(!line.contains(&b'\r') && !line.contains(&0));
    }
}
