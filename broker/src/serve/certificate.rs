//! The certificate of the main listener, renewed without a restart.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use runtime::{Failure, Shutdown, error_chain::ErrorChain, file_watch::ReadFiles, tls};
use rustls::ServerConfig;

/// Where the certificate is.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// The certificate of the moment. Cheap to clone; clones see the same renewals.
#[derive(Clone)]
pub struct Certificate(Arc<ArcSwap<ServerConfig>>);

impl TlsFiles {
    /// Takes note of what is in them, so that a change after it is seen.
    fn note(&self) -> ReadFiles {
        let mut files = ReadFiles::default();
        for path in [&self.cert, &self.key] {
            // What is wrong with a file is told by whoever loads it.
            drop(files.read(path));
        }
        files
    }
}

impl Certificate {
    /// Loads it, and says which files to follow.
    ///
    /// # Errors
    /// The files cannot be read, or do not fit.
    pub fn load(files: &TlsFiles) -> Result<(Self, ReadFiles), Failure> {
        let noted = files.note();
        let config = tls::load_server_config(&files.cert, &files.key).map_err(|error| {
            Failure::runtime("cannot serve TLS")
                .source(error)
                .remedy("--tls-cert-file and --tls-key-file must name a PEM certificate chain and its key")
        })?;
        Ok((Self(Arc::new(ArcSwap::from_pointee(config))), noted))
    }

    /// What to greet a new connection with.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }

    /// Takes a renewed certificate into use until shutdown; a bad one is refused and the old one stays.
    pub async fn follow(self, files: TlsFiles, mut noted: ReadFiles, shutdown: Shutdown) {
        while noted.changed(&shutdown).await {
            noted = files.note();
            match tls::load_server_config(&files.cert, &files.key) {
                Ok(config) => {
                    self.0.store(Arc::new(config));
                    tracing::info!("certificate reloaded");
                }
                Err(error) => {
                    tracing::error!(error = %ErrorChain(&error), "the new certificate cannot be used; the old one stays");
                }
            }
        }
    }
}
