//! Whether a caller comes over a connection of its cluster: a token that was stolen is worth nothing without the
//! certificate that the cluster is bound to. Pure; who a caller is, its token has said before.
//!
//! The handshake has verified the certificate: chain, validity, and that it is for clients. Here only its names count.

use std::sync::Arc;

use runtime::tls::{
    leaf::{self, CertificateName},
    server::ClientAuth,
};
use rustls::pki_types::CertificateDer;

use crate::config::{ClusterConfig, ConfigError};

/// Names of a certificate that a refusal repeats; one can have hundreds.
const SHOWN_NAMES: usize = 3;

/// Who is at the other end of a connection, by a verified certificate. In the extensions of each of its requests; not
/// there where no certificate was presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    names: Vec<CertificateName>,
}

/// Why a caller's connection is not one of its cluster's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The connection is anonymous.
    #[error("cluster {cluster:?} is called with a client certificate, and the caller's connection has none")]
    NoCertificate {
        /// The caller's cluster.
        cluster: Arc<str>,
    },
    /// The certificate is somebody else's.
    #[error(
        "the client certificate of the caller's connection is for {names}, which is not one of cluster {cluster:?}"
    )]
    OtherCertificate {
        /// The caller's cluster.
        cluster: Arc<str>,
        /// Whom the certificate names.
        names: String,
    },
}

impl Peer {
    /// The peer that has proven to hold the first of these certificates.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        chain.first().map(|certificate| Self {
            names: leaf::names(certificate),
        })
    }

    /// The first names, for refusals and the audit.
    pub fn shown(&self) -> String {
        let mut shown: Vec<_> = self
            .names
            .iter()
            .take(SHOWN_NAMES)
            .map(ToString::to_string)
            .collect();
        if shown.is_empty() {
            return "nobody".to_owned();
        }
        if self.names.len() > SHOWN_NAMES {
            shown.push("others".to_owned());
        }
        shown.join(", ")
    }
}

/// Whether a caller of `cluster` may come over the connection of `peer`.
///
/// # Errors
/// The cluster is bound to certificates, and the peer has none of them.
pub fn check(cluster: &ClusterConfig, peer: Option<&Peer>) -> Result<(), ChannelError> {
    if cluster.client_certificates.is_empty() {
        return Ok(());
    }
    let peer = peer.ok_or_else(|| ChannelError::NoCertificate {
        cluster: Arc::clone(&cluster.name),
    })?;
    if peer
        .names
        .iter()
        .any(|name| cluster.client_certificates.contains(name))
    {
        return Ok(());
    }
    Err(ChannelError::OtherCertificate {
        cluster: Arc::clone(&cluster.name),
        names: peer.shown(),
    })
}

/// Whether callers can have what their clusters are bound to.
///
/// # Errors
/// The listener asks nobody for a certificate, so that a cluster which is bound to one would be locked out.
pub fn check_possible<'a>(
    clusters: impl IntoIterator<Item = &'a ClusterConfig>,
    clients: &ClientAuth,
) -> Result<(), ConfigError> {
    let bound = clusters
        .into_iter()
        .position(|cluster| !cluster.client_certificates.is_empty());
    match (clients, bound) {
        (ClientAuth::None, Some(index)) => Err(ConfigError::Content {
            field: format!("clusters[{index}].clientCertificates"),
            problem: "the broker asks nobody for a certificate: start it with --tls-client-ca-file, or remove the names"
                .to_owned(),
        }),
        (ClientAuth::None, None) | (ClientAuth::Request(_) | ClientAuth::Require(_), _) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
