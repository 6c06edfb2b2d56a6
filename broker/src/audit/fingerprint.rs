//! What stands for a secret in a record: a hash under a key, so that who finds a token can find its record, and who
//! reads records learns nothing about tokens, not even by trying out guesses.

use std::fmt;

use aws_lc_rs::{
    error::Unspecified,
    hmac::{self, HMAC_SHA256},
    rand::SystemRandom,
};

/// The security of HMAC-SHA-256 ends with that of its key (RFC 2104 section 3).
const MIN_KEY_BYTES: usize = 32;
/// Of the HMAC's 32 bytes: enough to tell any two tokens apart.
const FINGERPRINT_BYTES: usize = 16;
/// Enough to tell keys apart.
const KEY_ID_BYTES: usize = 4;
/// What is hashed under the key to name it.
const KEY_LABEL: &[u8] = b"acrpull audit key id";

/// A key for fingerprints. Shows its id and nothing else.
pub struct FingerprintKey {
    key: hmac::Key,
    id: String,
}

/// A key that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("has {0} bytes and must have at least {MIN_KEY_BYTES}; make one with: openssl rand -out FILE 32")]
pub struct KeyTooShort(usize);

impl FingerprintKey {
    /// The key that `bytes` are, as they are.
    ///
    /// # Errors
    /// They are too few.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyTooShort> {
        if bytes.len() < MIN_KEY_BYTES {
            return Err(KeyTooShort(bytes.len()));
        }
        Ok(Self::of(hmac::Key::new(HMAC_SHA256, bytes)))
    }

    /// A key that nobody else has, and that nobody can look a token up with later.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn random() -> Result<Self, Unspecified> {
        Ok(Self::of(hmac::Key::generate(HMAC_SHA256, &SystemRandom::new())?))
    }

    fn of(key: hmac::Key) -> Self {
        let id = hex(hmac::sign(&key, KEY_LABEL).as_ref(), KEY_ID_BYTES);
        Self { key, id }
    }

    /// What it is called in records.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The fingerprint of a token.
    pub fn fingerprint(&self, secret: &str) -> String {
        hex(
            hmac::sign(&self.key, secret.as_bytes()).as_ref(),
            FINGERPRINT_BYTES,
        )
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FingerprintKey").field(&self.id).finish()
    }
}

/// The first `count` bytes.
fn hex(bytes: &[u8], count: usize) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('?');
    bytes
        .iter()
        .take(count)
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_fingerprint_is_the_head_of_the_hmac() {
        // RFC 4231 test case 3, with its key padded by the zeros that HMAC itself pads keys with.
        let mut bytes = [0; 32];
        bytes[..20].fill(0xaa);
        let key = FingerprintKey::new(&bytes).unwrap();
        let tag = hmac::sign(&key.key, &[0xdd; 50]);
        assert_eq!(
            hex(tag.as_ref(), FINGERPRINT_BYTES),
            "773ea91e36800e46854db8ebd09181a7"
        );
    }

    #[test]
    fn o1_fingerprints_of_two_keys_have_nothing_in_common() {
        let (a, b) = (
            FingerprintKey::random().unwrap(),
            FingerprintKey::new(&[1; 32]).unwrap(),
        );
        assert_ne!(a.id(), b.id());
        assert_ne!(a.fingerprint("token"), b.fingerprint("token"));
        assert_eq!(a.fingerprint("token"), a.fingerprint("token"));
        assert_eq!((b.id().len(), b.fingerprint("token").len()), (8, 32));
        assert_eq!(format!("{b:?}"), format!("FingerprintKey({:?})", b.id()));
    }

    #[test]
    fn key_that_is_too_short_is_refused() {
        assert_eq!(FingerprintKey::new(&[0; 31]).unwrap_err(), KeyTooShort(31));
    }
}
