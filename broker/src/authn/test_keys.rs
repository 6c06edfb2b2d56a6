//! Keys of API servers, made up for tests.

use aws_lc_rs::{
    encoding::AsDer as _,
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::KeySet;

/// A key of an API server, with the JWKS that publishes it.
pub(crate) struct Signer {
    key: EncodingKey,
    pub(crate) public_der: Vec<u8>,
    jwk: Value,
}

impl Signer {
    pub(crate) fn new(kid: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key();
        let field = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
            "n": field(public.modulus().big_endian_without_leading_zero()),
            "e": field(public.exponent().big_endian_without_leading_zero()),
        });
        let pkcs8 = pair.as_der().unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            base64::engine::general_purpose::STANDARD.encode(pkcs8.as_ref())
        );
        Self {
            key: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
            public_der: public.as_ref().to_vec(),
            jwk,
        }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(Algorithm::RS256), claims)
    }

    /// The header that it signs with, for another algorithm.
    pub(crate) fn header(&self, algorithm: Algorithm) -> Header {
        Header {
            kid: self.jwk["kid"].as_str().map(str::to_owned),
            ..Header::new(algorithm)
        }
    }

    pub(crate) fn sign_as(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }

    /// A key that its JWKS gives no `kid`.
    pub(crate) fn nameless() -> Self {
        let mut signer = Self::new("");
        signer.jwk["kid"] = Value::Null;
        signer
    }

    pub(crate) fn sign_without_kid(&self, claims: &Value) -> String {
        self.sign_as(&Header::new(Algorithm::RS256), claims)
    }

    pub(crate) fn jwks(&self) -> KeySet {
        KeySet::parse(self.jwks_text().as_bytes()).unwrap()
    }

    /// What publishes all of these.
    pub(crate) fn jwks_of(signers: &[&Self]) -> KeySet {
        let keys: Vec<&Value> = signers.iter().map(|signer| &signer.jwk).collect();
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    /// The document that publishes it.
    pub(crate) fn jwks_text(&self) -> String {
        json!({"keys": [self.jwk]}).to_string()
    }
}
