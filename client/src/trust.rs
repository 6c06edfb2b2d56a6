//! Who may answer as the broker: certificates that chain to the configured roots and name the configured host.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use runtime::{
    error_chain::ErrorChain,
    tls::{TlsError, crypto_provider, load_certificates},
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::ClientError;

/// What a server must prove.
#[derive(Debug)]
pub(crate) struct Trust {
    server_name: ServerName<'static>,
    ca_file: Option<PathBuf>,
    /// What the last usable content of the file made.
    loaded: Mutex<Loaded>,
}

#[derive(Debug, Clone)]
struct Loaded {
    certificates: Vec<CertificateDer<'static>>,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// Trusts the roots in `ca_file`, or those of the system.
    pub(crate) fn load(host: &str, ca_file: Option<PathBuf>) -> Result<Self, ClientError> {
        let server_name = ServerName::try_from(host.to_owned()).map_err(|source| ClientError::Host {
            host: host.to_owned(),
            source,
        })?;
        let loaded = match &ca_file {
            Some(path) => {
                let certificates = load_certificates(path).map_err(ClientError::Ca)?;
                from_file(path, certificates).map_err(ClientError::Ca)?
            }
            None => from_system()?,
        };
        Ok(Self {
            server_name,
            ca_file,
            loaded: Mutex::new(loaded),
        })
    }

    /// The host that certificates must name.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }

    /// For the next connection: a CA that was replaced counts from here on. One that cannot be used is logged, and the last
    /// good one stays.
    pub(crate) async fn config(&self) -> Arc<ClientConfig> {
        let before = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(path) = self.ca_file.clone() else {
            return before.config;
        };
        let shown = path.display().to_string();
        let known = before.certificates;
        let read = tokio::task::spawn_blocking(move || {
            let certificates = load_certificates(&path)?;
            // The same configuration keeps its memory of TLS sessions.
            (certificates != known)
                .then(|| from_file(&path, certificates))
                .transpose()
        });
        match read.await {
            Ok(Ok(Some(loaded))) => {
                tracing::info!(path = shown, "the broker's CA file was read again");
                *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = loaded.clone();
                return loaded.config;
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::error!(error = %ErrorChain(&error), "the broker's CA file cannot be used; the last one stays");
            }
            // The runtime is going down: nothing will be connected any more.
            Err(_cancelled) => {}
        }
        before.config
    }
}

fn from_file(path: &std::path::Path, certificates: Vec<CertificateDer<'static>>) -> Result<Loaded, TlsError> {
    let unusable = |source| TlsError::Unusable {
        path: path.display().to_string(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(unusable)?;
    }
    let config = config(roots).map_err(unusable)?;
    Ok(Loaded { certificates, config })
}

fn from_system() -> Result<Loaded, ClientError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _unusable) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err(ClientError::NoSystemRoots);
    }
    Ok(Loaded {
        certificates: Vec::new(),
        config: config(roots).map_err(ClientError::Tls)?,
    })
}

fn config(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
