//! The server side of TLS: the certificate that is served, which versions are spoken, and what clients must prove.
//! Whether a certificate suits the one who calls is not decided here.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use clap::ValueEnum;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{TlsError, crypto_provider, leaf, load_certificates, load_private_key, load_roots};
use crate::file_watch::ReadFiles;

/// How a listener serves TLS.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// What clients must prove.
    pub clients: ClientAuth,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// What clients must prove by a certificate. The file is a bundle of CAs, PEM; chain, validity and, where the certificate
/// has an extended key usage, that it is for clients are verified in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing: they are not asked.
    None,
    /// Who presents a certificate must present a good one; who presents none stays anonymous.
    Request(PathBuf),
    /// There is no connection without a good one.
    Require(PathBuf),
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsVersion {
    /// For callers that have nothing newer.
    #[value(name = "1.2")]
    Tls12,
    /// The newest.
    #[value(name = "1.3")]
    Tls13,
}

/// What came of loading.
pub struct Loaded {
    /// For the handshake; HTTP/2 and HTTP/1.1.
    pub config: ServerConfig,
    /// The last moment of the certificate that is served.
    pub not_after: Option<SystemTime>,
}

impl ClientAuth {
    /// The CAs.
    pub fn ca(&self) -> Option<&PathBuf> {
        match self {
            Self::None => None,
            Self::Request(ca) | Self::Require(ca) => Some(ca),
        }
    }

    fn verifier(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let Some(ca) = self.ca() else {
            return Ok(None);
        };
        let roots = Arc::new(load_roots(ca)?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, crypto_provider());
        let builder = match self {
            Self::Request(_) => builder.allow_unauthenticated(),
            Self::None | Self::Require(_) => builder,
        };
        let verifier = builder.build().map_err(|source| TlsError::Verifier {
            path: ca.display().to_string(),
            source,
        })?;
        Ok(Some(verifier))
    }
}

impl ServerTls {
    /// Takes note of what is in the files, so that a change after it is seen.
    pub fn note(&self) -> ReadFiles {
        let mut files = ReadFiles::default();
        for path in [&self.cert, &self.key].into_iter().chain(self.clients.ca()) {
            // What is wrong with a file is told by whoever loads it.
            drop(files.read(path));
        }
        files
    }

    /// Loads it all.
    ///
    /// # Errors
    /// A file cannot be read, or certificate and key do not fit.
    pub fn load(&self) -> Result<Loaded, TlsError> {
        let chain = load_certificates(&self.cert)?;
        let not_after = chain.first().and_then(leaf::not_after);
        let key = load_private_key(&self.key)?;
        let unusable = |source| TlsError::Unusable {
            path: self.cert.display().to_string(),
            source,
        };
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(versions)
            .map_err(unusable)?;
        let verifier = self.clients.verifier()?;
        let is_verifying = verifier.is_some();
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
        if is_verifying {
            // A session that is resumed shows the certificate of then, and nobody asks whether it is still valid.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Loaded { config, not_after })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn served(folder: &tempfile::TempDir) -> ServerTls {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let tls = ServerTls {
            cert: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            clients: ClientAuth::Require(folder.path().join("ca.crt")),
            min_version: TlsVersion::Tls13,
        };
        std::fs::write(&tls.cert, certificate.pem()).unwrap();
        std::fs::write(&tls.key, key.serialize_pem()).unwrap();
        std::fs::write(tls.clients.ca().unwrap(), certificate.pem()).unwrap();
        tls
    }

    #[test]
    fn load_names_the_file_that_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let tls = served(&folder);
        assert!(tls.load().unwrap().not_after.is_some());
        for path in [&tls.cert, &tls.key, tls.clients.ca().unwrap()] {
            let good = std::fs::read(path).unwrap();
            std::fs::write(path, "-----BEGIN NOTHING-----").unwrap();
            let error = tls.load().map(|_loaded| ()).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            std::fs::write(path, good).unwrap();
        }
    }

    #[test]
    fn load_resumes_no_session_where_certificates_are_verified() {
        let folder = tempfile::tempdir().unwrap();
        let verifying = served(&folder);
        let asking_nobody = ServerTls {
            clients: ClientAuth::None,
            ..verifying.clone()
        };
        assert_eq!(verifying.load().unwrap().config.send_tls13_tickets, 0);
        assert_ne!(asking_nobody.load().unwrap().config.send_tls13_tickets, 0);
    }

    #[test]
    fn note_sees_a_change_of_each_file() {
        let folder = tempfile::tempdir().unwrap();
        let tls = served(&folder);
        for path in [&tls.cert, &tls.key, tls.clients.ca().unwrap()] {
            let noted = tls.note();
            assert!(!noted.have_changed());
            std::fs::write(path, "other").unwrap();
            assert!(noted.have_changed(), "{}", path.display());
        }
    }
}
