//! Minting: claims in, token out, with whatever a fault wants to be wrong about it.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    faults::{ExpiryAs, TokenFault},
    jwt::{SigningKey, unsigned},
};

/// When a token was issued and when it ends, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) exp: i64,
}

impl Validity {
    /// From now, for `ttl_s`, or for what the fault says.
    pub(crate) fn from_now(now: Timestamp, ttl_s: u64, fault: Option<&TokenFault>) -> Self {
        let now = now.as_second();
        let ttl = fault
            .and_then(|fault| fault.ttl_s)
            .unwrap_or_else(|| ttl_s.cast_signed());
        let (exp, nbf, iat) = fault.map_or((0, 0, 0), |fault| {
            (fault.exp_delta_s, fault.nbf_delta_s, fault.iat_delta_s)
        });
        Self {
            iat: now + iat,
            nbf: now + nbf,
            exp: now + ttl + exp,
        }
    }

    /// `iat` and `nbf` moved into the past; `exp` stays.
    #[must_use]
    pub(crate) fn backdated(self, seconds: i64) -> Self {
        Self {
            iat: self.iat - seconds,
            nbf: self.nbf - seconds,
            ..self
        }
    }
}

/// Signs claims that must be an object without times.
pub(crate) fn mint(
    key: &SigningKey,
    mut claims: Map<String, Value>,
    validity: Validity,
    fault: Option<&TokenFault>,
) -> String {
    claims.insert("iat".to_owned(), json!(validity.iat));
    claims.insert("nbf".to_owned(), json!(validity.nbf));
    claims.insert("exp".to_owned(), json!(validity.exp));
    let Some(fault) = fault else {
        return key.sign(&Value::Object(claims));
    };

    match fault.exp_as {
        ExpiryAs::Number => {}
        ExpiryAs::Float => drop(claims.insert("exp".to_owned(), Value::from(seconds_as_float(validity.exp)))),
        ExpiryAs::String => drop(claims.insert("exp".to_owned(), json!(validity.exp.to_string()))),
        ExpiryAs::Missing => drop(claims.remove("exp")),
    }
    if let Some(audience) = &fault.wrong_aud {
        claims.insert("aud".to_owned(), json!(audience));
    }
    if let Some(size) = fault.size_bytes {
        claims.insert("padding".to_owned(), json!("x".repeat(size)));
    }
    let id = claims
        .get("jti")
        .and_then(Value::as_str)
        .unwrap_or("token")
        .to_owned();
    let claims = Value::Object(claims);
    match fault {
        TokenFault { empty: true, .. } => String::new(),
        TokenFault { opaque: true, .. } => format!("opaque-{id}"),
        TokenFault { not_b64: true, .. } => format!("{}.*not base64*", key.sign(&claims)),
        TokenFault {
            header_none: true, ..
        } => unsigned(&claims),
        _ => key.sign(&claims),
    }
}

/// Exact for every time this side of the year 280 million.
#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 stay far below 2^52"
)]
fn seconds_as_float(seconds: i64) -> f64 {
    seconds as f64 + 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::Parsed;

    fn minted(fault: &TokenFault) -> String {
        let key = SigningKey::generate("k").unwrap();
        let now = Timestamp::from_second(1_000).unwrap();
        let claims = Map::from_iter([("jti".to_owned(), json!("id-1")), ("aud".to_owned(), json!("a"))]);
        mint(
            &key,
            claims,
            Validity::from_now(now, 60, Some(fault)),
            Some(fault),
        )
    }

    #[test]
    fn token_fault_changes_times() {
        let fault = TokenFault {
            ttl_s: Some(10),
            exp_delta_s: -3_600,
            ..TokenFault::default()
        };
        assert_eq!(
            Parsed::parse(&minted(&fault)).unwrap().time("exp"),
            Some(1_010 - 3_600)
        );
        let fault = TokenFault {
            exp_as: ExpiryAs::Missing,
            ..TokenFault::default()
        };
        assert!(
            Parsed::parse(&minted(&fault))
                .unwrap()
                .claims
                .get("exp")
                .is_none()
        );
        let fault = TokenFault {
            exp_as: ExpiryAs::String,
            ..TokenFault::default()
        };
        assert_eq!(Parsed::parse(&minted(&fault)).unwrap().claim("exp"), Some("1060"));
    }

    #[test]
    fn token_fault_changes_shape() {
        assert_eq!(
            minted(&TokenFault {
                empty: true,
                ..TokenFault::default()
            }),
            ""
        );
        assert_eq!(
            minted(&TokenFault {
                opaque: true,
                ..TokenFault::default()
            }),
            "opaque-id-1"
        );
        let none = Parsed::parse(&minted(&TokenFault {
            header_none: true,
            ..TokenFault::default()
        }))
        .unwrap();
        assert_eq!(none.text("alg"), Some("none"));
        let other = TokenFault {
            wrong_aud: Some("b".to_owned()),
            ..TokenFault::default()
        };
        assert!(Parsed::parse(&minted(&other)).unwrap().is_for("b"));
        assert!(
            minted(&TokenFault {
                size_bytes: Some(9_000),
                ..TokenFault::default()
            })
            .len()
                > 9_000
        );
    }
}
