//! A cluster's key: signs whatever it is told to, header included, so that targets reach the checks after the signature.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker::authn::KeySet;

/// Its `kid`.
pub(crate) const KEY_ID: &str = "k1";

pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// A JWT of exactly these texts.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The document that publishes the key.
    pub(crate) fn jwks(&self) -> String {
        // An uncompressed point: 0x04, then 32 bytes each.
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":"{KEY_ID}","x":"{x}","y":"{y}"}}]}}"#
        )
    }

    pub(crate) fn keys(&self) -> KeySet {
        KeySet::parse(self.jwks().as_bytes()).unwrap()
    }
}
