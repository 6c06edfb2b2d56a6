//! One token: what may be read before its signature is verified, the verification, and the checks after it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use serde::Deserialize;
use serde_json::Value;

use super::keys::Key;
use crate::config::ClusterConfig;

/// A ServiceAccount token has 1 to 2 KiB; more is not one, and costs memory before it is refused.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far the clocks of an API server and the broker may be apart. It applies to `nbf` and `iat` only: an expired token is
/// expired.
const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// None was sent.
    #[error("no bearer token was sent")]
    Missing,
    /// More than one was sent: which of them counts is not for the sender to leave open.
    #[error("more than one authorization header was sent")]
    Several,
    /// Not a JWT, or an unsigned one, or one with an algorithm that is not accepted.
    #[error("it is not a JWT signed with RS256 or ES256")]
    Malformed,
    /// No cluster of the configuration has this `iss`.
    #[error("its issuer is not that of a configured cluster")]
    UnknownIssuer,
    /// No cluster is known to have the key that it names, and one with this `iss` has no keys yet: it may be of that one.
    #[error("the signing keys of its cluster are not available yet")]
    KeysUnavailable,
    /// No key of a cluster with this issuer has signed it.
    #[error("its signature is not by a key of a configured cluster")]
    Signature,
    /// Signed by a key of a cluster, and without what every token must say.
    #[error("it has no sub, aud, iat or exp, or has them in another form")]
    Claims,
    /// Of another cluster than the caller.
    #[error("it is of another cluster than the caller")]
    OtherCluster,
    /// `exp` has passed.
    #[error("it has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("it is not valid yet")]
    NotYetValid,
    /// It would outlive its ServiceAccount for longer than its cluster may.
    #[error(
        "it was issued for {seconds} s, and at most {most} s are accepted (maxTokenLifetimeSeconds in the broker's \
         configuration): request one with a shorter expirationSeconds"
    )]
    LivesTooLong {
        /// How long it lives.
        seconds: u64,
        /// How long it may.
        most: u64,
    },
    /// For somebody else.
    #[error("it was issued for another audience")]
    Audience,
    /// `sub` is not a ServiceAccount.
    #[error("it is not the token of a ServiceAccount")]
    NotAServiceAccount,
}

/// What a token is presented for. No token is good for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To authenticate a caller.
    Caller,
    /// To be exchanged at Entra.
    Subject,
}

/// All that may be used of a token before its signature is verified: which keys to try.
#[derive(Debug)]
pub(super) struct Unverified {
    pub(super) issuer: String,
    pub(super) key_id: Option<String>,
    pub(super) algorithm: Algorithm,
}

/// The claims of a token whose signature is verified.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) subject: Arc<str>,
    pub(super) id: Option<String>,
    audiences: Vec<String>,
    issued_at: SystemTime,
    expires_at: SystemTime,
    not_before: Option<SystemTime>,
}

#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

#[derive(Deserialize)]
struct RawClaims {
    sub: String,
    aud: OneOrMany,
    iat: u64,
    exp: u64,
    nbf: Option<u64>,
    jti: Option<Value>,
}

/// RFC 7519 section 4.1.3: `aud` is a string or an array of strings.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Reads the header and the issuer. Nothing of this is believed; it only says which keys to try.
pub(super) fn read_unverified(token: &str) -> Result<Unverified, TokenError> {
    let malformed = |_error: jsonwebtoken::errors::Error| TokenError::Malformed;
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(malformed)?;
    // What `crit` lists must be understood or refused (RFC 7515 section 4.1.11), and nothing is.
    if header.crit.is_some() || !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
        return Err(TokenError::Malformed);
    }
    let claims: IssuerClaim = jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(malformed)?;
    Ok(Unverified {
        issuer: claims.iss,
        key_id: header.kid,
        algorithm: header.alg,
    })
}

/// Verifies the signature with one key. The algorithm is the key's, whatever the header says. Any error but
/// [`TokenError::Signature`] is about what the key has signed.
pub(super) fn verify(token: &str, key: &Key) -> Result<Claims, TokenError> {
    let mut validation = Validation::new(key.algorithm);
    // Time and audience are ours to check: with the clock of this process, on every request, remembered token or not.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims = jsonwebtoken::decode::<RawClaims>(token, &key.decoding, &validation)
        .map_err(|error| {
            // The header has been read before, and the claims are read after the signature is verified.
            if matches!(error.kind(), ErrorKind::Json(_)) {
                TokenError::Claims
            } else {
                TokenError::Signature
            }
        })?
        .claims;
    let at = |seconds| {
        UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .ok_or(TokenError::Claims)
    };
    Ok(Claims {
        subject: claims.sub.into(),
        // An id that is no text is none, and no reason to refuse a token that is good.
        id: claims.jti.and_then(|id| id.as_str().map(str::to_owned)),
        audiences: match claims.aud {
            OneOrMany::One(audience) => vec![audience],
            OneOrMany::Many(audiences) => audiences,
        },
        issued_at: at(claims.iat)?,
        expires_at: at(claims.exp)?,
        not_before: claims.nbf.map(at).transpose()?,
    })
}

impl Claims {
    /// Which of these audiences the token is for, in their order, so that two tokens for the same ones compare equal.
    pub(super) fn among(&self, audiences: &[String]) -> Arc<[String]> {
        audiences
            .iter()
            .filter(|audience| self.audiences.contains(audience))
            .cloned()
            .collect()
    }

    /// Whether the token is good for this purpose now.
    pub(super) fn check(
        &self,
        purpose: Purpose,
        cluster: &ClusterConfig,
        now: SystemTime,
    ) -> Result<(), TokenError> {
        if now >= self.expires_at {
            return Err(TokenError::Expired);
        }
        if self
            .not_before
            .is_some_and(|not_before| now + CLOCK_SKEW < not_before)
        {
            return Err(TokenError::NotYetValid);
        }
        let (wanted, other) = match purpose {
            Purpose::Caller => (&cluster.caller_audiences, &cluster.subject_audiences),
            Purpose::Subject => (&cluster.subject_audiences, &cluster.caller_audiences),
        };
        let is_for = |accepted: &[String]| self.audiences.iter().any(|audience| accepted.contains(audience));
        // A token for both audiences could be replayed by whoever receives it for one of them.
        if !is_for(wanted) || is_for(other) {
            return Err(TokenError::Audience);
        }
        self.check_lifetime(cluster.max_token_lifetime, now)
    }

    /// Whoever is deleted in its cluster goes on until its last token has expired, so what counts is how long that was issued
    /// for and not how much of it is left. One that says to be issued in the future counts from now.
    fn check_lifetime(&self, most: Duration, now: SystemTime) -> Result<(), TokenError> {
        let issued_at = self.issued_at.min(now + CLOCK_SKEW);
        let lifetime = self.expires_at.duration_since(issued_at).unwrap_or_default();
        if lifetime > most {
            return Err(TokenError::LivesTooLong {
                seconds: lifetime.as_secs(),
                most: most.as_secs(),
            });
        }
        Ok(())
    }
}
