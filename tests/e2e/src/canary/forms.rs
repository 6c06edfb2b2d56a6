//! The ways in which a program may write bytes that it should not have written at all. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// Base64 writes three bytes as four characters: the same bytes look different at each of three positions.
const POSITIONS: [usize; 3] = [0, 1, 2];

/// Every form, each with its name. Some may be equal.
pub(super) fn forms(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![
        ("it is", bytes.to_vec()),
        ("hexadecimal", hexadecimal(bytes, false)),
        ("hexadecimal", hexadecimal(bytes, true)),
        ("URL encoding", url_encoded(bytes, false)),
        ("URL encoding", url_encoded(bytes, true)),
        ("JSON", json(bytes, false)),
        ("JSON", json(bytes, true)),
        ("JSON in JSON", json(&json(bytes, false), false)),
    ];
    for position in POSITIONS {
        let (standard, url_safe) = base64(bytes, position);
        // As the login in a pull Secret is.
        forms.extend(POSITIONS.map(|outer| ("base64 in base64", base64(&standard, outer).0)));
        forms.push(("base64", standard));
        forms.push(("base64", url_safe));
    }
    forms
}

/// What does not depend on what stands before and after.
fn base64(bytes: &[u8], position: usize) -> (Vec<u8>, Vec<u8>) {
    let mut padded = vec![0; position];
    padded.extend_from_slice(bytes);
    let whole = padded.len() / 3 * 4;
    let first = if position == 0 { 0 } else { 4 };
    let cut = |text: String| text.as_bytes().get(first..whole).unwrap_or_default().to_vec();
    (cut(STANDARD.encode(&padded)), cut(URL_SAFE.encode(&padded)))
}

fn hexadecimal(bytes: &[u8], is_upper: bool) -> Vec<u8> {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    cased(digits.collect(), is_upper)
}

/// By the strictest rules: all but the unreserved characters (RFC 3986 section 2.3).
fn url_encoded(bytes: &[u8], is_upper: bool) -> Vec<u8> {
    let characters = bytes.iter().map(|&byte| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => cased_text(format!("%{byte:02x}"), is_upper),
    });
    characters.collect::<String>().into_bytes()
}

/// Inside of the quotes. Some writers escape a slash, too.
fn json(bytes: &[u8], escapes_slash: bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let quoted = serde_json::Value::from(text.as_ref()).to_string();
    let inner = quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or_default();
    if escapes_slash {
        inner.replace('/', "\\/").into_bytes()
    } else {
        inner.as_bytes().to_vec()
    }
}

fn cased(text: String, is_upper: bool) -> Vec<u8> {
    cased_text(text, is_upper).into_bytes()
}

fn cased_text(text: String, is_upper: bool) -> String {
    if is_upper { text.to_ascii_uppercase() } else { text }
}
