//! JSON Web Tokens, taken apart and put together step by step.
//!
//! A library would check everything at once and could not mint what a test needs: a missing `exp`, `alg:
//! none`, a key that nobody published. Entra reports each defect with a code of its own, so each check stands
//! alone.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaPublicKeyComponents},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An RS256 key pair with its key ID.
pub(crate) struct SigningKey {
    kid: String,
    pair: KeyPair,
    public: Jwk,
}

/// Public keys as published by an issuer. Members that we do not need are ignored: the document is not ours.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct JwkSet {
    pub(crate) keys: Vec<Jwk>,
}

/// One public key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Jwk {
    pub(crate) kty: String,
    #[serde(default)]
    pub(crate) kid: Option<String>,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) alg: Option<String>,
    #[serde(default)]
    pub(crate) n: String,
    #[serde(default)]
    pub(crate) e: String,
}

/// A token taken apart. Nothing in it has been verified.
pub(crate) struct Parsed {
    pub(crate) header: Value,
    pub(crate) claims: Value,
    signing_input: String,
    signature: Vec<u8>,
}

/// A key pair could not be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to generate an RSA key")]
pub(crate) struct KeyError;

impl SigningKey {
    /// Makes a 2048-bit key. Takes a tenth of a second, or a few.
    pub(crate) fn generate(kid: &str) -> Result<Self, KeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_unspecified| KeyError)?;
        let (n, e) = rsa_public_numbers(pair.public_key().as_ref()).ok_or(KeyError)?;
        let public = Jwk {
            kty: "RSA".to_owned(),
            kid: Some(kid.to_owned()),
            usage: Some("sig".to_owned()),
            alg: Some("RS256".to_owned()),
            n: BASE64_URL_SAFE_NO_PAD.encode(n),
            e: BASE64_URL_SAFE_NO_PAD.encode(e),
        };
        Ok(Self {
            kid: kid.to_owned(),
            pair,
            public,
        })
    }

    /// The public half.
    pub(crate) fn public(&self) -> &Jwk {
        &self.public
    }

    /// Signs claims, with the usual header.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with_header(&json!({"alg": "RS256", "typ": "JWT", "kid": self.kid}), claims)
    }

    /// Signs claims under any header.
    pub(crate) fn sign_with_header(&self, header: &Value, claims: &Value) -> String {
        let input = signing_input(header, claims);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                input.as_bytes(),
                &mut signature,
            )
            .expect("a key that was generated here must sign");
        format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// Whether this key signed the token.
    pub(crate) fn signed(&self, token: &Parsed) -> bool {
        self.public.verifies(token)
    }
}

impl Jwk {
    fn verifies(&self, token: &Parsed) -> bool {
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok();
        let (Some(n), Some(e)) = (decode(&self.n), decode(&self.e)) else {
            return false;
        };
        token.text("alg") == Some("RS256")
            && RsaPublicKeyComponents { n, e }
                .verify(
                    &RSA_PKCS1_2048_8192_SHA256,
                    token.signing_input.as_bytes(),
                    &token.signature,
                )
                .is_ok()
    }
}

impl JwkSet {
    /// Whether the key that the token names is published here and signed it.
    pub(crate) fn verifies(&self, token: &Parsed) -> bool {
        let kid = token.text("kid");
        self.keys
            .iter()
            .filter(|key| kid.is_none() || key.kid.as_deref() == kid)
            .any(|key| key.kty == "RSA" && key.verifies(token))
    }
}

impl Parsed {
    /// Takes a token apart: three base64url parts, of which the first two are JSON objects.
    pub(crate) fn parse(token: &str) -> Option<Self> {
        let (input, signature) = token.rsplit_once('.')?;
        let (header, claims) = input.split_once('.')?;
        let object = |part: &str| -> Option<Value> {
            let value: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
            value.is_object().then_some(value)
        };
        Some(Self {
            header: object(header)?,
            claims: object(claims)?,
            signing_input: input.to_owned(),
            signature: BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// A text member of the header.
    pub(crate) fn text(&self, member: &str) -> Option<&str> {
        self.header.get(member)?.as_str()
    }

    /// A text claim.
    pub(crate) fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// A time claim, in seconds.
    pub(crate) fn time(&self, name: &str) -> Option<i64> {
        self.claims.get(name)?.as_i64()
    }

    /// Whether `aud`, one or several, holds this audience.
    pub(crate) fn is_for(&self, audience: &str) -> bool {
        match self.claims.get("aud") {
            Some(Value::String(only)) => only == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one == audience),
            _ => false,
        }
    }
}

/// A token without a signature.
pub(crate) fn unsigned(claims: &Value) -> String {
    format!(
        "{}.",
        signing_input(&json!({"alg": "none", "typ": "JWT"}), claims)
    )
}

fn signing_input(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// Modulus and exponent of a DER `RSAPublicKey ::= SEQUENCE { n INTEGER, e INTEGER }` (RFC 8017 A.1.1).
fn rsa_public_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, _) = der_element(der, 0x30)?;
    let (n, rest) = der_element(sequence, 0x02)?;
    let (e, _) = der_element(rest, 0x02)?;
    Some((n.strip_prefix(&[0]).unwrap_or(n), e))
}

/// Content of the first DER element, which must have this tag, and what follows it.
fn der_element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (head, rest) = der.split_first_chunk::<2>()?;
    let [found, length] = *head;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        (
            bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte)),
            rest,
        )
    };
    if found == tag {
        rest.split_at_checked(length)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_signed_here_verifies_and_a_changed_one_does_not() {
        let key = SigningKey::generate("k1").unwrap();
        let other = SigningKey::generate("k1").unwrap();
        let token = key.sign(&json!({"sub": "a", "exp": 5}));
        let parsed = Parsed::parse(&token).unwrap();
        let set = JwkSet {
            keys: vec![key.public().clone()],
        };
        assert!(set.verifies(&parsed));
        assert!(!other.signed(&parsed));
        assert_eq!((parsed.claim("sub"), parsed.time("exp")), (Some("a"), Some(5)));

        let (head, _) = token.rsplit_once('.').unwrap();
        let stripped = Parsed::parse(&format!("{head}.")).unwrap();
        assert!(!set.verifies(&stripped));
        assert!(!set.verifies(&Parsed::parse(&unsigned(&json!({"sub": "a"}))).unwrap()));
    }

    #[test]
    fn token_with_unpublished_kid_does_not_verify() {
        let key = SigningKey::generate("k1").unwrap();
        let token = key.sign_with_header(&json!({"alg": "RS256", "kid": "k2"}), &json!({}));
        assert!(
            !JwkSet {
                keys: vec![key.public().clone()]
            }
            .verifies(&Parsed::parse(&token).unwrap())
        );
    }

    #[test]
    fn text_that_is_no_token_does_not_parse() {
        for text in ["", "a.b", "a.b.c", "e30.W10.", "..", "e30.e30.%"] {
            assert!(Parsed::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn audience_may_be_one_or_several() {
        let parsed = |claims: &Value| Parsed::parse(&unsigned(claims)).unwrap();
        assert!(parsed(&json!({"aud": "a"})).is_for("a"));
        assert!(parsed(&json!({"aud": ["b", "a"]})).is_for("a"));
        assert!(!parsed(&json!({"aud": ["b"]})).is_for("a"));
        assert!(!parsed(&json!({})).is_for("a"));
    }
}
