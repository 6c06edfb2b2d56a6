//! Certificates: loaded with errors that name the file, one crypto provider.
//!
//! [`leaf`] reads what is written in a certificate, [`server`] says how a listener proves itself and what it asks of its
//! peers. Who reloads them, and when, is for those who use them.

pub mod leaf;
pub mod server;

use std::{path::Path, sync::Arc};

use rustls::{RootCertStore, crypto::CryptoProvider, server::VerifierBuilderError};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// Why TLS material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("failed to read {what} {path}")]
    Read {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The file is readable and holds nothing of the kind.
    #[error("{path} holds no {what} in PEM form")]
    Empty {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: String,
    },
    /// Certificate and key do not fit, or a certificate is not acceptable.
    #[error("cannot use {path}")]
    Unusable {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// Nobody's certificate can be verified by what is in the file.
    #[error("cannot verify certificates by {path}")]
    Verifier {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: VerifierBuilderError,
    },
}

/// Makes aws-lc-rs the crypto provider of the process. Call it first in `main`.
pub fn install_crypto_provider() {
    // An error means that one is installed already, which in this process can only be the same.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a crypto provider was installed already");
    }
}

/// The provider that [`install_crypto_provider`] installs.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Reads every certificate of a PEM file.
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const WHAT: &str = "certificate";
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| TlsError::Read {
            what: WHAT,
            path: path.display().to_string(),
            source,
        })?;
    if certificates.is_empty() {
        return Err(TlsError::Empty {
            what: WHAT,
            path: path.display().to_string(),
        });
    }
    Ok(certificates)
}

/// Reads a CA bundle into a root store.
///
/// # Errors
/// The file cannot be read, holds no certificate, or one that is no acceptable root.
pub fn load_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in load_certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Unusable {
            path: path.display().to_string(),
            source,
        })?;
    }
    Ok(roots)
}

/// Reads the private key of a PEM file.
///
/// # Errors
/// The file cannot be read or holds no private key.
pub fn load_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::Read {
        what: "private key",
        path: path.display().to_string(),
        source,
    })
}
