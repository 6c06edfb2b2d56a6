//! What a token says about itself, without the token: header and claims of a JWT, nothing that could be used.
//!
//! It verifies nothing; whoever takes the token does that, as the last step shows.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Header and claims.
pub(crate) struct TokenText {
    header: Value,
    claims: Value,
}

impl TokenText {
    /// Reads a token.
    ///
    /// # Errors
    /// It is no JWT. The error does not quote it.
    pub(crate) fn read(token: &str) -> anyhow::Result<Self> {
        let mut parts = token.split('.').map(|part| {
            let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice(&bytes).ok()
        });
        let mut next = || parts.next().flatten().context("the token is no JWT");
        Ok(Self {
            header: next()?,
            claims: next()?,
        })
    }

    /// A claim that is text.
    pub(crate) fn text(&self, claim: &str) -> &str {
        self.claims.get(claim).and_then(Value::as_str).unwrap_or_default()
    }

    /// When it ends.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.claims.get("exp")?.as_i64()?).ok()
    }

    /// What it lets its bearer do, each as `TYPE:NAME:ACTION,...`.
    pub(crate) fn access(&self) -> Vec<String> {
        let entries = self
            .claims
            .get("access")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        entries.map(entry_text).collect()
    }

    /// The parts that a person looks for, as one object.
    pub(crate) fn excerpt(&self) -> Value {
        json!({
            "header": {"alg": self.header.get("alg"), "typ": self.header.get("typ")},
            "claims": {
                "iss": self.claims.get("iss"),
                "aud": self.claims.get("aud"),
                "exp": self.expires_at().map(|at| at.to_string()),
                "access": self.access(),
            },
        })
    }
}

fn entry_text(entry: &Value) -> String {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
    let actions = entry
        .get("actions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let actions: Vec<&str> = actions.filter_map(Value::as_str).collect();
    format!("{}:{}:{}", text("type"), text("name"), actions.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_read_without_its_signature() {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({"alg": "RS256", "typ": "JWT", "kid": "k"}));
        let claims = part(json!({
            "aud": "demo.azurecr.io",
            "exp": 0,
            "access": [{"type": "repository", "name": "team/web", "actions": ["pull", "metadata_read"]}],
        }));
        let token = TokenText::read(&format!("{header}.{claims}.signature")).unwrap();
        assert_eq!(token.text("aud"), "demo.azurecr.io");
        assert_eq!(token.expires_at(), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(token.access(), ["repository:team/web:pull,metadata_read"]);
        assert!(!token.excerpt().to_string().contains("signature"));
    }

    #[test]
    fn token_that_is_no_jwt_is_refused_without_being_quoted() {
        for token in ["secret", "a.b.c", ""] {
            let error = TokenText::read(token).err().unwrap();
            assert_eq!(format!("{error:#}"), "the token is no JWT");
        }
    }
}
