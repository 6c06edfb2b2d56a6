//! Both sides of trust in a connection: who may answer as the broker (certificates that chain to the configured roots and
//! name the configured host), and by which certificate this process proves itself, if by any.
//!
//! Read again for each connection. What cannot be used is logged, and the last good state stays.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use runtime::{
    error_chain::ErrorChain,
    file_watch::ReadFiles,
    tls::{TlsError, crypto_provider, leaf, load_certificates, load_private_key, load_roots},
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::{ClientCertificate, ClientError, metrics::ClientMetrics};

/// What a server must prove, and what is proven to it.
pub(crate) struct Trust {
    server_name: ServerName<'static>,
    files: TrustFiles,
    /// What the last usable content of the files made.
    loaded: Mutex<Loaded>,
    metrics: ClientMetrics,
}

/// Where it is written.
#[derive(Debug, Clone)]
pub(crate) struct TrustFiles {
    /// Roots; those of the system when absent.
    pub(crate) ca: Option<PathBuf>,
    /// This process's own certificate.
    pub(crate) own: Option<ClientCertificate>,
}

#[derive(Clone)]
struct Loaded {
    read: Arc<ReadFiles>,
    config: Arc<ClientConfig>,
    own_not_after: Option<SystemTime>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("server_name", &self.server_name)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// What `files` say of a server called `host`.
    pub(crate) fn load(host: &str, files: TrustFiles, metrics: ClientMetrics) -> Result<Self, ClientError> {
        let server_name = ServerName::try_from(host.to_owned()).map_err(|source| ClientError::Host {
            host: host.to_owned(),
            source,
        })?;
        let loaded = files.load()?;
        metrics.set_certificate_not_after(loaded.own_not_after);
        Ok(Self {
            server_name,
            files,
            loaded: Mutex::new(loaded),
            metrics,
        })
    }

    /// The host that certificates must name.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }

    /// For the next connection: what was replaced counts from here on.
    pub(crate) async fn config(&self) -> Arc<ClientConfig> {
        let before = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.files.is_empty() {
            return before.config;
        }
        let (files, read) = (self.files.clone(), Arc::clone(&before.read));
        // The same content keeps its configuration, and with it the memory of TLS sessions.
        let loading =
            tokio::task::spawn_blocking(move || read.have_changed().then(|| files.load()).transpose());
        match loading.await {
            Ok(Ok(Some(loaded))) => {
                tracing::info!(files = ?self.files, "the files for TLS to the broker were read again");
                self.metrics.set_certificate_not_after(loaded.own_not_after);
                *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = loaded.clone();
                return loaded.config;
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::error!(error = %ErrorChain(&error), "the changed files for TLS to the broker cannot be used; what was there before stays");
            }
            // The runtime is going down: nothing will be connected any more.
            Err(_cancelled) => {}
        }
        before.config
    }
}

impl TrustFiles {
    fn is_empty(&self) -> bool {
        self.ca.is_none() && self.own.is_none()
    }

    /// Reads and checks them all. Blocks.
    fn load(&self) -> Result<Loaded, ClientError> {
        let mut read = ReadFiles::default();
        let own = self.own.iter().flat_map(|own| [&own.cert_file, &own.key_file]);
        for path in self.ca.iter().chain(own) {
            // What is wrong with a file is told by whoever loads it below.
            drop(read.read(path));
        }
        let roots = match &self.ca {
            Some(path) => load_roots(path).map_err(ClientError::Ca)?,
            None => system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .map_err(ClientError::Tls)?
            .with_root_certificates(roots);
        let mut own_not_after = None;
        let mut config = match &self.own {
            Some(own) => {
                let (chain, key) = own.load().map_err(ClientError::Certificate)?;
                own_not_after = chain.first().and_then(leaf::not_after);
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|source| own.unusable(source))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Loaded {
            read: Arc::new(read),
            config: Arc::new(config),
            own_not_after,
        })
    }
}

impl ClientCertificate {
    fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        Ok((
            load_certificates(&self.cert_file)?,
            load_private_key(&self.key_file)?,
        ))
    }

    fn unusable(&self, source: rustls::Error) -> ClientError {
        ClientError::Certificate(TlsError::Unusable {
            path: self.cert_file.display().to_string(),
            source,
        })
    }
}

fn system_roots() -> Result<RootCertStore, ClientError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _unusable) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err(ClientError::NoSystemRoots);
    }
    Ok(roots)
}
