//! The names under which calls are counted, logged and made to fail.

use serde::{Deserialize, Serialize};

/// One simulated service, which is one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Entra ID.
    Entra,
    /// The instance metadata service.
    Imds,
    /// Every registry.
    Acr,
    /// The egress proxy.
    Proxy,
}

/// What a caller wanted of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A connection that got no further than TCP or TLS, or a tunnel through the proxy.
    Connect,
    /// A token: of Entra, of IMDS, or an ACR access token.
    Token,
    /// An Entra token for an ACR refresh token.
    Exchange,
    /// `GET /v2/`.
    Challenge,
    /// A manifest.
    Manifest,
    /// A blob or an upload.
    Blob,
    /// The catalog.
    Catalog,
    /// Discovery of an issuer.
    Discovery,
    /// Signing keys.
    Keys,
    /// Anything else.
    Other,
}

impl Service {
    /// The name used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::Imds => "imds",
            Self::Acr => "acr",
            Self::Proxy => "proxy",
        }
    }
}

impl Operation {
    /// What a request for `path` is, by service.
    pub(crate) fn of(service: Service, path: &str) -> Self {
        match service {
            Service::Entra if path.ends_with("/oauth2/v2.0/token") => Self::Token,
            Service::Entra if path.ends_with("/.well-known/openid-configuration") => Self::Discovery,
            Service::Entra if path.ends_with("/discovery/v2.0/keys") => Self::Keys,
            Service::Imds if path == "/metadata/identity/oauth2/token" => Self::Token,
            Service::Acr => match path {
                "/oauth2/exchange" => Self::Exchange,
                "/oauth2/token" => Self::Token,
                "/v2/" | "/v2" => Self::Challenge,
                "/v2/_catalog" => Self::Catalog,
                _ if path.starts_with("/v2/") && path.contains("/manifests/") => Self::Manifest,
                _ if path.starts_with("/v2/") && path.contains("/blobs/") => Self::Blob,
                _ => Self::Other,
            },
            Service::Proxy => Self::Connect,
            Service::Entra | Service::Imds => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_follows_from_service_and_path() {
        for (service, path, expected) in [
            (Service::Entra, "/t/oauth2/v2.0/token", Operation::Token),
            (
                Service::Entra,
                "/t/v2.0/.well-known/openid-configuration",
                Operation::Discovery,
            ),
            (Service::Imds, "/metadata/identity/oauth2/token", Operation::Token),
            (Service::Imds, "/metadata/instance", Operation::Other),
            (Service::Acr, "/oauth2/exchange", Operation::Exchange),
            (Service::Acr, "/v2/team/app/manifests/v1", Operation::Manifest),
            (Service::Acr, "/v2/team/app/blobs/uploads/", Operation::Blob),
            (Service::Acr, "/", Operation::Other),
        ] {
            assert_eq!(Operation::of(service, path), expected, "{service:?} {path}");
        }
    }
}
