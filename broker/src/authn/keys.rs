//! The public keys of one cluster, as its JWKS lists them.

use std::fmt;

use aws_lc_rs::digest;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};

/// A JWKS is a few keys of a few hundred bytes; more than this is not one.
pub(super) const MAX_JWKS_BYTES: usize = 256 * 1024;
/// Keys of one cluster at most: each is a signature check that a forged token can cost.
const MAX_KEYS: usize = 16;

/// Keys that can verify RS256 or ES256 signatures. Other keys of a set are left out.
#[derive(Clone)]
pub struct KeySet(Vec<Key>);

/// One key.
#[derive(Clone)]
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
    thumbprint: Vec<u8>,
}

/// Why a document is not a usable key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON of the right shape. Says where and not what: by mistake the document may hold a private key.
    #[error("is not a JSON Web Key Set such as {{\"keys\":[..]}}: line {line}, column {column}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Too large.
    #[error("is larger than 256 KiB")]
    TooLarge,
    /// More keys than a cluster has.
    #[error("has more than 16 usable keys")]
    TooManyKeys,
    /// None of the keys can verify RS256 or ES256.
    #[error("has no RSA or P-256 key for signatures")]
    Empty,
}

impl KeySet {
    /// Reads a JWKS document.
    ///
    /// # Errors
    /// It is none, or holds no usable key.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        if json.len() > MAX_JWKS_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let set: JwkSet = serde_json::from_slice(json).map_err(|error| KeySetError::Syntax {
            line: error.line(),
            column: error.column(),
        })?;
        let keys: Vec<Key> = set.keys.iter().filter_map(Key::from_jwk).collect();
        match keys.len() {
            0 => Err(KeySetError::Empty),
            1..=MAX_KEYS => Ok(Self(keys)),
            _ => Err(KeySetError::TooManyKeys),
        }
    }

    /// What tells keys apart, whatever they are called (RFC 7638).
    pub fn thumbprints(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.iter().map(|key| key.thumbprint.clone())
    }

    /// The keys that a token with this header may have been signed with.
    pub(super) fn matching(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.0
            .iter()
            .filter(move |key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id))
    }

    pub(super) fn has(&self, id: Option<&str>) -> bool {
        id.is_none() || self.0.iter().any(|key| key.id.as_deref() == id)
    }

    /// Whether both hold the same keys.
    pub(super) fn same_keys(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|(a, b)| a.id == b.id && a.thumbprint == b.thumbprint)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

impl Key {
    /// The algorithm follows from the type of the key, never from the token: a public RSA key is not an HMAC secret.
    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let (algorithm, identity) = if let AlgorithmParameters::RSA(rsa) = &jwk.algorithm {
            (Algorithm::RS256, format!("RSA.{}.{}", rsa.e, rsa.n))
        } else if let AlgorithmParameters::EllipticCurve(ec) = &jwk.algorithm
            && ec.curve == EllipticCurve::P256
        {
            (Algorithm::ES256, format!("EC.{}.{}", ec.x, ec.y))
        } else {
            return None;
        };
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        let thumbprint = digest::digest(&digest::SHA256, identity.as_bytes())
            .as_ref()
            .to_vec();
        for_signatures.then_some(Self {
            id: jwk.common.key_id.clone(),
            algorithm,
            decoding,
            thumbprint,
        })
    }
}
