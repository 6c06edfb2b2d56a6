//! Whether a text may be a token: it goes into JSON, into headers and into Secrets, whoever wrote it.

use runtime::Secret;

/// Together with the rest of the payload this stays under the 64 KiB of a message.
const MAX_BYTES: usize = 20 * 1024;

/// Refuses what no honest server issues: the alphabet is that of bearer tokens (RFC 6750 section 2.1), which JSON web
/// tokens stay within.
///
/// # Errors
/// What is wrong with it, without the text.
pub(super) fn check(token: &Secret) -> Result<(), &'static str> {
    let text = token.expose();
    if text.is_empty() {
        return Err("holds no token");
    }
    if text.len() > MAX_BYTES {
        return Err("holds a token of more than 20 KiB");
    }
    let is_plain = text.bytes().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
    });
    if is_plain {
        Ok(())
    } else {
        Err("holds a token with characters that no token has")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e3_token_that_is_no_plain_text_is_refused() {
        check(&"eyJhbGciOiJub25lIn0.e30.c2ln-_".to_owned().into()).unwrap();
        for text in [
            "",
            "a b",
            "a\"b",
            "a\nb",
            "a\\b",
            "a\u{e9}",
            "a\0",
            &"x".repeat(MAX_BYTES + 1),
        ] {
            check(&text.to_owned().into()).unwrap_err();
        }
    }
}
