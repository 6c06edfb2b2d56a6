//! Bodies that are not what a client expects.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use super::{BodyVariant, JsonQuirk};

/// Deep enough to exhaust the stack of a parser without a limit.
const DEEP: usize = 10_000;

/// A bomb is made of members (RFC 1952, 2.2) that become this much each: one is compressed, not all of it.
const BOMB_MEMBER_BYTES: usize = 1 << 20;

/// The body that replaces `own`.
pub(crate) fn variant_body(variant: &BodyVariant, own: &Bytes) -> Bytes {
    match variant {
        BodyVariant::Raw(text) => Bytes::from(text.clone()),
        BodyVariant::Empty => Bytes::new(),
        BodyVariant::Html => Bytes::from_static(
            b"<html><head><title>503 Service Unavailable</title></head><body>Ref A: 0F1E2D Ref B: EDGE0108</body></html>",
        ),
        BodyVariant::Huge(bytes) => Bytes::from(format!("\"{}\"", "x".repeat(bytes.saturating_sub(2)))),
        BodyVariant::Bom => Bytes::from([b"\xef\xbb\xbf", own.as_ref()].concat()),
        BodyVariant::InvalidUtf8 => Bytes::from_static(b"{\"access_token\":\"\xff\xfe\"}"),
        BodyVariant::DuplicateKeys => {
            let text = String::from_utf8_lossy(own);
            let members = text.trim().trim_start_matches('{').trim_end_matches('}');
            Bytes::from(format!("{{{members},{members}}}"))
        }
        BodyVariant::DeepJson => Bytes::from(format!("{}{}", "[".repeat(DEEP), "]".repeat(DEEP))),
    }
}

/// A small gzip file that becomes a large one of at least so many bytes, all zero.
pub(crate) fn gzip_bomb(bytes: u64) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let member = encoder
        .write_all(&vec![0; BOMB_MEMBER_BYTES])
        .and_then(|()| encoder.finish())
        .expect("a vector must take what is written to it");
    let members = bytes.div_ceil(BOMB_MEMBER_BYTES as u64);
    Bytes::from(member.repeat(usize::try_from(members).unwrap_or(usize::MAX)))
}

/// `own` with oddities, or unchanged if it is no JSON object.
pub(crate) fn quirky_json(quirk: &JsonQuirk, own: &Bytes) -> Bytes {
    let Ok(Value::Object(mut members)) = serde_json::from_slice::<Value>(own) else {
        return own.clone();
    };
    for (name, value) in &mut members {
        match (name.as_str(), &*value) {
            ("expires_in", Value::Number(number)) if quirk.expires_in_string => {
                *value = Value::String(number.to_string());
            }
            ("expires_on", Value::String(text)) if quirk.expires_on_number => {
                *value = text.parse::<i64>().map_or(Value::Null, Value::from);
            }
            ("error_description", Value::String(text)) if quirk.crlf_description => {
                *value = Value::String(text.replace(" Trace ID:", "\r\nTrace ID:"));
            }
            ("access_token" | "refresh_token" | "token_type" | "expires_in", _) => {}
            _ if quirk.null_fields => *value = Value::Null,
            _ => {}
        }
    }
    members.retain(|name, _| !quirk.missing.contains(name));
    if quirk.extra_fields {
        members.insert(
            "x_unheard_of".to_owned(),
            serde_json::json!({"nested": [1, 2, 3]}),
        );
    }
    let text = Value::Object(members).to_string();
    Bytes::from(if quirk.unicode_escapes {
        text.replace('\'', "\\u0027")
    } else {
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirks_change_what_they_name() {
        let own =
            Bytes::from_static(br#"{"access_token":"t","expires_in":10,"expires_on":"99","resource":"r"}"#);
        let quirk = JsonQuirk {
            expires_in_string: true,
            expires_on_number: true,
            extra_fields: true,
            missing: vec!["resource".to_owned()],
            ..JsonQuirk::default()
        };
        let value: Value = serde_json::from_slice(&quirky_json(&quirk, &own)).unwrap();
        assert_eq!(value["expires_in"], "10");
        assert_eq!(value["expires_on"], 99);
        assert!(value.get("resource").is_none() && value.get("x_unheard_of").is_some());
    }

    #[test]
    fn quirks_of_escapes_keep_the_meaning() {
        let own = Bytes::from_static(br#"{"error_description":"subject 'a'. Trace ID: 1"}"#);
        let quirk = JsonQuirk {
            crlf_description: true,
            unicode_escapes: true,
            ..JsonQuirk::default()
        };
        let text = quirky_json(&quirk, &own);
        assert!(text.windows(6).any(|window| window == b"\\u0027"));
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["error_description"], "subject 'a'.\r\nTrace ID: 1");
    }

    #[test]
    fn bomb_is_small_and_becomes_large() {
        let bomb = gzip_bomb(3_000_000);
        assert!(bomb.len() < 10_000, "{}", bomb.len());
        let mut decoder = flate2::read::MultiGzDecoder::new(bomb.as_ref());
        let became = std::io::copy(&mut decoder, &mut std::io::sink()).unwrap();
        assert_eq!(became, 3 << 20);
    }

    #[test]
    fn variants_are_what_they_say() {
        let own = Bytes::from_static(br#"{"a":1}"#);
        assert_eq!(
            variant_body(&BodyVariant::DuplicateKeys, &own),
            r#"{"a":1,"a":1}"#
        );
        assert_eq!(variant_body(&BodyVariant::Huge(100), &own).len(), 100);
        assert!(variant_body(&BodyVariant::Empty, &own).is_empty());
        assert!(std::str::from_utf8(&variant_body(&BodyVariant::InvalidUtf8, &own)).is_err());
        assert!(variant_body(&BodyVariant::Bom, &own).starts_with(b"\xef\xbb\xbf{"));
        assert!(variant_body(&BodyVariant::DeepJson, &own).len() > 10_000);
    }
}
