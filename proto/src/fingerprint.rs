//! A short name for a payload: equal payloads have equal fingerprints on every replica and after every restart.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest;

/// The first 16 bytes of the SHA-256 of a `.dockerconfigjson` payload.
///
/// 128 bits of a hash over a payload that holds a signed token: it neither reveals the token nor collides.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; Self::LEN]);

impl Fingerprint {
    /// Length in bytes.
    pub const LEN: usize = 16;

    /// The fingerprint of a payload.
    pub fn of(payload: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, payload);
        let mut bytes = [0; Self::LEN];
        bytes
            .iter_mut()
            .zip(hash.as_ref())
            .for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    /// The bytes as they go over the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes are not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has 16 bytes, got {0}")]
pub struct FingerprintError(usize);

impl TryFrom<&[u8]> for Fingerprint {
    type Error = FingerprintError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_wrong_length| FingerprintError(bytes.len()))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .try_for_each(|digit| f.write_char(digit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_is_the_head_of_the_sha256() {
        // SHA-256("abc"), FIPS 180-2 appendix B.1.
        assert_eq!(
            format!("{:?}", Fingerprint::of(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223"
        );
    }

    #[test]
    fn fingerprint_of_other_lengths_is_refused() {
        assert_eq!(
            Fingerprint::try_from([0_u8; 15].as_slice()),
            Err(FingerprintError(15))
        );
        let whole = Fingerprint::of(b"abc");
        assert_eq!(Fingerprint::try_from(whole.as_bytes()), Ok(whole));
    }
}
