//! The public keys of one cluster, as its JWKS lists them.

use std::fmt;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};

use super::{Evidence, token::Claims};

/// A JWKS is a few keys of a few hundred bytes; more than this is not one.
pub(super) const MAX_JWKS_BYTES: usize = 256 * 1024;
/// Keys of one cluster at most: each is a signature check that a forged token can cost.
pub(super) const MAX_KEYS: usize = 16;
const P256_COORDINATE_BYTES: usize = 32;

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
    /// Its public part, to be written down again.
    jwk: Jwk,
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

    /// What tells keys apart, whatever they are called and however they are written.
    pub fn thumbprints(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.iter().map(|key| key.thumbprint.clone())
    }

    /// The keys that a token with this header may have been signed with. A token without `kid` is only tried on keys without
    /// one: else a forged one would cost a check with every key of every cluster of its issuer.
    pub(super) fn matching(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.0
            .iter()
            .filter(move |key| key.algorithm == algorithm && key.id.as_deref() == id)
    }

    /// The set without those keys whose thumbprint `is_left_out` knows; nothing, if none is left.
    pub(super) fn without(&self, is_left_out: impl Fn(&[u8]) -> bool) -> Option<Self> {
        let kept = self.0.iter().filter(|key| !is_left_out(&key.thumbprint));
        let kept: Vec<Key> = kept.cloned().collect();
        (!kept.is_empty()).then_some(Self(kept))
    }

    /// The document that publishes these keys and no others.
    pub(super) fn document(&self) -> JwkSet {
        JwkSet {
            keys: self.0.iter().map(|key| key.jwk.clone()).collect(),
        }
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
    /// That this key has verified the token with these claims.
    pub(super) fn evidence(&self, claims: &Claims) -> Evidence {
        Evidence {
            key_id: self.id.clone(),
            key_thumbprint: URL_SAFE_NO_PAD.encode(&self.thumbprint),
            token_id: claims.id.clone(),
        }
    }

    /// The algorithm follows from the type of the key, never from the token: a public RSA key is not an HMAC secret.
    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let (algorithm, thumbprint) = if let AlgorithmParameters::RSA(rsa) = &jwk.algorithm {
            let numbers = [number(&rsa.n)?, number(&rsa.e)?];
            (Algorithm::RS256, thumbprint("RSA", &numbers))
        } else if let AlgorithmParameters::EllipticCurve(ec) = &jwk.algorithm
            && ec.curve == EllipticCurve::P256
        {
            let point = [coordinate(&ec.x)?, coordinate(&ec.y)?];
            (Algorithm::ES256, thumbprint("EC", &point))
        } else {
            return None;
        };
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        for_signatures.then_some(Self {
            id: jwk.common.key_id.clone(),
            algorithm,
            decoding,
            thumbprint,
            jwk: jwk.clone(),
        })
    }
}

/// A number of an RSA key. Leading zeros are no part of it (RFC 7518 section 2).
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

/// A coordinate of a P-256 point: 32 bytes, always (RFC 7518 section 6.2.1.2). Verification joins the two, so that with
/// any other length one point could be written in many ways.
fn coordinate(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    (bytes.len() == P256_COORDINATE_BYTES).then_some(bytes)
}

/// Of what the key is, not of how it is written: the same key under another spelling would pass for a different one.
fn thumbprint(kind: &str, parts: &[Vec<u8>; 2]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(kind.as_bytes());
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::test_keys::Signer, *};

    /// Of RFC 7517 appendix A.1.
    const X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
    const Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";

    fn set(key: &Value) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({"keys": [key]}).to_string().as_bytes())
    }

    fn point(x: &[u8], y: &[u8]) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "x": text(x), "y": text(y)})
    }

    #[test]
    fn a2_point_that_is_split_elsewhere_is_no_key() {
        let [x, y] = [X, Y].map(|text| URL_SAFE_NO_PAD.decode(text).unwrap());
        assert!(set(&point(&x, &y)).is_ok());
        let joined = [x, y].concat();
        for at in [0, 31, 33, 64] {
            let (x, y) = joined.split_at(at);
            assert_eq!(set(&point(x, y)).unwrap_err(), KeySetError::Empty, "{at}");
        }
    }

    #[test]
    fn a2_thumbprint_is_of_the_key_and_not_of_its_spelling() {
        let signer = Signer::new("a");
        let plain: Value = serde_json::from_str(&signer.jwks_text()).unwrap();
        let plain = &plain["keys"][0];
        let mut spelt = plain.clone();
        spelt["kid"] = json!("another");
        for field in ["n", "e"] {
            let mut bytes = vec![0];
            bytes.extend(URL_SAFE_NO_PAD.decode(plain[field].as_str().unwrap()).unwrap());
            spelt[field] = json!(URL_SAFE_NO_PAD.encode(bytes));
        }
        // Refused or recognised: what it may not be is a key of its own.
        if let Ok(spelt) = set(&spelt) {
            assert!(spelt.thumbprints().eq(signer.jwks().thumbprints()));
        }
        assert!(
            !signer
                .jwks()
                .thumbprints()
                .eq(Signer::new("a").jwks().thumbprints())
        );
    }
}
