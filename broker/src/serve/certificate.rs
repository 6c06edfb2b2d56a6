//! The certificate of the main listener, and the authorities of callers' certificates, renewed without a restart.

use std::sync::Arc;

use arc_swap::ArcSwap;
use runtime::{
    Failure, Shutdown,
    error_chain::ErrorChain,
    file_watch::ReadFiles,
    tls::{
        TlsError,
        server::{Loaded, ServerTls},
    },
};
use rustls::ServerConfig;

use crate::metrics::CertificateMetrics;

/// The certificate of the moment. Cheap to clone; clones see the same renewals.
#[derive(Clone)]
pub struct Certificate {
    tls: Arc<ServerTls>,
    current: Arc<ArcSwap<ServerConfig>>,
    metrics: CertificateMetrics,
}

impl Certificate {
    /// Loads it, and says which files to follow.
    ///
    /// # Errors
    /// The files cannot be read, or do not fit.
    pub fn load(tls: ServerTls) -> Result<(Self, ReadFiles), Failure> {
        let noted = tls.note();
        let Loaded { config, not_after } = tls.load().map_err(|error| {
            let failure = Failure::runtime("cannot serve TLS").source(error);
            if tls.clients.ca().is_some() {
                failure.remedy("--tls-cert-file and --tls-key-file must name a PEM certificate chain and its key, and --tls-client-ca-file PEM certificates")
            } else {
                failure.remedy("--tls-cert-file and --tls-key-file must name a PEM certificate chain and its key")
            }
        })?;
        let metrics = CertificateMetrics::default();
        metrics.set_not_after(not_after);
        let certificate = Self {
            tls: Arc::new(tls),
            current: Arc::new(ArcSwap::from_pointee(config)),
            metrics,
        };
        Ok((certificate, noted))
    }

    /// What is known of it.
    pub fn metrics(&self) -> &CertificateMetrics {
        &self.metrics
    }

    /// What to greet a new connection with.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Takes renewed files into use until shutdown; bad ones are refused and the old ones stay.
    pub async fn follow(self, mut noted: ReadFiles, shutdown: Shutdown) {
        while noted.changed(&shutdown).await {
            let (as_read, loaded) = read(&self.tls).await;
            noted = as_read;
            match loaded {
                Some(Ok(Loaded { config, not_after })) => {
                    self.current.store(Arc::new(config));
                    self.metrics.set_not_after(not_after);
                    tracing::info!("certificate reloaded");
                }
                Some(Err(error)) => {
                    tracing::error!(error = %ErrorChain(&error), "the new certificate cannot be used; the old one stays");
                }
                None => {
                    tracing::error!("the new certificate cannot be parsed; the old one stays");
                }
            }
        }
    }
}

/// Reads the files off the threads that serve. Nothing is loaded where a parser has panicked: whatever it trips over must
/// not end a process that serves with a good certificate.
async fn read(tls: &Arc<ServerTls>) -> (ReadFiles, Option<Result<Loaded, TlsError>>) {
    let reading = tokio::task::spawn_blocking({
        let tls = Arc::clone(tls);
        move || (tls.note(), tls.load())
    });
    match reading.await {
        Ok((noted, loaded)) => (noted, Some(loaded)),
        Err(_panicked) => (tls.note(), None),
    }
}
