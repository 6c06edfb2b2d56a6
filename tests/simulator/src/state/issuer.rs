//! Issuers of ServiceAccount tokens: where Entra finds their keys.

use serde::{Deserialize, Serialize};

/// An issuer of ServiceAccount tokens, as Entra sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Compared exactly with `iss`, trailing slash included.
    pub url: String,
    /// Where its public keys come from.
    pub keys: IssuerKeys,
    /// False: Entra cannot fetch the keys (AADSTS50166).
    #[serde(default = "yes")]
    pub reachable: bool,
}

/// Where an issuer's public keys come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum IssuerKeys {
    /// The simulator holds them and mints tokens (`POST /_sim/sa-token`). The last key ID is the active one.
    Simulated {
        /// Key IDs that the issuer publishes.
        kids: Vec<String>,
    },
    /// A JWKS document.
    Inline(serde_json::Value),
    /// Fetched from a real cluster and cached.
    Url {
        /// Address of the JWKS document.
        url: String,
        /// Certificates to trust, PEM.
        #[serde(default)]
        ca_pem: Option<String>,
        /// Bearer token, where anonymous callers may not read it.
        #[serde(default)]
        bearer_token: Option<String>,
    },
}

impl Issuer {
    /// An issuer whose key the simulator holds.
    pub fn simulated(url: &str) -> Self {
        Self::with_keys(
            url,
            IssuerKeys::Simulated {
                kids: vec!["k1".to_owned()],
            },
        )
    }

    /// An issuer with the given JWKS document.
    pub fn inline(url: &str, jwks: serde_json::Value) -> Self {
        Self::with_keys(url, IssuerKeys::Inline(jwks))
    }

    /// An issuer whose keys are fetched.
    pub fn fetched(url: &str, jwks_url: &str, ca_pem: Option<String>, bearer_token: Option<String>) -> Self {
        Self::with_keys(
            url,
            IssuerKeys::Url {
                url: jwks_url.to_owned(),
                ca_pem,
                bearer_token,
            },
        )
    }

    fn with_keys(url: &str, keys: IssuerKeys) -> Self {
        Self {
            url: url.to_owned(),
            keys,
            reachable: true,
        }
    }
}

const fn yes() -> bool {
    true
}
