//! ServiceAccount tokens that no API server would issue, signed with real keys.

use std::sync::LazyLock;

use anyhow::Context as _;
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use e2e::Stack;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};

/// A key that signs tokens.
pub(crate) struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
    id: String,
    public_pem: String,
}

/// The key of the second cluster of the broker's configuration; it has the issuer of the first.
pub(crate) static NEIGHBOUR: LazyLock<NeighbourKey> = LazyLock::new(NeighbourKey::generate);

/// See [`NEIGHBOUR`].
pub(crate) struct NeighbourKey {
    pair: KeyPair,
}

/// The claims of a token that is good as it is.
pub(crate) fn claims(issuer: &str, namespace: &str, account: &str, audience: &str) -> Value {
    let now = Timestamp::now().as_second();
    json!({
        "iss": issuer,
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "aud": [audience],
        "iat": now, "nbf": now, "exp": now + 600,
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": "uid"}},
    })
}

/// Claims with some changed.
pub(crate) fn with(mut claims: Value, changes: &Value) -> Value {
    if let (Value::Object(claims), Value::Object(changes)) = (&mut claims, changes) {
        claims.extend(changes.clone());
    }
    claims
}

impl SigningKey {
    /// The key of the stack's own cluster.
    pub(crate) fn of_cluster(stack: &Stack) -> anyhow::Result<Self> {
        let path = stack
            .plane()
            .service_account_signing_key_path()
            .context("an existing cluster keeps its key")?;
        let pem = std::fs::read_to_string(path).context("failed to read the cluster's key")?;
        let jwks: Value = serde_json::from_str(stack.plane().jwks())?;
        let id = jwks
            .pointer("/keys/0/kid")
            .and_then(Value::as_str)
            .context("the cluster's key has no id")?
            .to_owned();
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let pair = rsa::KeyPair::from_pkcs8(&STANDARD.decode(body)?)?;
        let public: PublicKeyX509Der<'_> = aws_lc_rs::signature::KeyPair::public_key(&pair).as_der()?;
        let public_pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(public.as_ref())
        );
        Ok(Self {
            key: EncodingKey::from_rsa_pem(pem.as_bytes())?,
            algorithm: Algorithm::RS256,
            id,
            public_pem,
        })
    }

    /// A key that nobody knows, under any id.
    pub(crate) fn unknown(id: &str) -> anyhow::Result<Self> {
        Self::elliptic(&KeyPair::generate()?, id)
    }

    fn elliptic(pair: &KeyPair, id: &str) -> anyhow::Result<Self> {
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())?;
        Ok(Self {
            key,
            algorithm: Algorithm::ES256,
            id: id.to_owned(),
            public_pem: pair.public_key_pem(),
        })
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Signs.
    pub(crate) fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let header = Header {
            kid: Some(self.id.clone()),
            ..Header::new(self.algorithm)
        };
        Ok(jsonwebtoken::encode(&header, claims, &self.key)?)
    }

    /// Signs with the public key as the secret of an HMAC: what a verifier that believes the header would accept.
    pub(crate) fn confuse(&self, claims: &Value) -> anyhow::Result<String> {
        let header = Header {
            kid: Some(self.id.clone()),
            ..Header::new(Algorithm::HS256)
        };
        Ok(jsonwebtoken::encode(
            &header,
            claims,
            &EncodingKey::from_secret(self.public_pem.as_bytes()),
        )?)
    }

    /// Does not sign.
    pub(crate) fn unsigned(&self, claims: &Value) -> String {
        let header = json!({"alg": "none", "kid": self.id});
        let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!("{header}.{claims}.")
    }
}

impl NeighbourKey {
    fn generate() -> Self {
        Self {
            pair: KeyPair::generate().expect("the random number generator works"),
        }
    }

    /// To sign with.
    pub(crate) fn signing_key(&self) -> anyhow::Result<SigningKey> {
        SigningKey::elliptic(&self.pair, "neighbour")
    }

    /// The cluster's entry in the broker's configuration.
    pub(crate) fn cluster(&self, issuer: &str) -> Value {
        let point = self.pair.public_key_raw();
        // Uncompressed (SEC 1 section 2.3.3): a tag, then both coordinates.
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        let jwks = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "neighbour", "x": x, "y": y},
        ]});
        json!({
            "name": "neighbour",
            "issuer": issuer,
            "jwks": {"inline": jwks.to_string()},
            "callerAudiences": [e2e::BROKER_AUDIENCE],
            "subjectAudiences": [e2e::FEDERATION_AUDIENCE],
            "syncers": [e2e::SYNCER_SUBJECT],
            "defaultTenant": e2e::TENANT,
        })
    }
}
