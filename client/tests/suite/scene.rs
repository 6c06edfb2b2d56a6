//! What every test needs: an authority, a token, a name with addresses, and the client of it.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use client::{BrokerClient, BrokerError, ClientCertificate, ClientOptions, Resolve};
use futures::future::BoxFuture;
use proto::v1::{BindingReference, GetDockerConfigRequest};

use crate::{
    authority::{Authority, HOST},
    replica::{Log, Replica},
};

/// The addresses of the broker's name, as a test says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Arc<Mutex<Vec<SocketAddr>>>);

impl Names {
    pub(crate) fn set(&self, addresses: &[SocketAddr]) {
        *self.0.lock().unwrap() = addresses.to_vec();
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        assert_eq!((host, port), (HOST, 8443));
        let addresses = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(addresses) })
    }
}

pub(crate) struct Scene {
    pub(crate) authority: Authority,
    pub(crate) names: Names,
    pub(crate) log: Log,
    pub(crate) token_file: PathBuf,
    pub(crate) ca_file: PathBuf,
    /// Not there until a test writes it.
    pub(crate) own: ClientCertificate,
    _folder: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (token_file, ca_file) = (folder.path().join("token"), folder.path().join("ca.crt"));
        std::fs::write(&token_file, "the-callers-token").unwrap();
        std::fs::write(&ca_file, authority.pem()).unwrap();
        Self {
            authority,
            names: Names::default(),
            log: Log::default(),
            token_file,
            ca_file,
            own: ClientCertificate {
                cert_file: folder.path().join("tls.crt"),
                key_file: folder.path().join("tls.key"),
            },
            _folder: folder,
        }
    }

    pub(crate) async fn replica(&self) -> Replica {
        Replica::start(self.authority.issue(HOST), &self.log, None).await
    }

    /// A client that the name leads to `addresses`.
    pub(crate) fn client(&self, addresses: &[SocketAddr]) -> BrokerClient {
        self.names.set(addresses);
        self.client_of(&self.options())
    }

    /// The same, of a process with a certificate of its own.
    pub(crate) fn certified_client(&self, addresses: &[SocketAddr]) -> BrokerClient {
        self.names.set(addresses);
        self.client_of(&ClientOptions {
            client_certificate: Some(self.own.clone()),
            ..self.options()
        })
    }

    /// How the broker is reached, with no certificate.
    pub(crate) fn options(&self) -> ClientOptions {
        ClientOptions {
            address: format!("https://{HOST}:8443"),
            ca_file: Some(self.ca_file.clone()),
            token_file: self.token_file.clone(),
            client_certificate: None,
        }
    }

    /// Gives this process a certificate, or another one.
    pub(crate) fn write_own(&self, (certificate, key): &(String, String)) {
        std::fs::write(&self.own.cert_file, certificate).unwrap();
        std::fs::write(&self.own.key_file, key).unwrap();
    }

    fn client_of(&self, options: &ClientOptions) -> BrokerClient {
        BrokerClient::with_resolver(options, Arc::new(self.names.clone())).unwrap()
    }
}

/// One call; yields the address of the replica that answered.
pub(crate) async fn call(client: &BrokerClient, name: impl Into<String>) -> Result<SocketAddr, BrokerError> {
    let message = GetDockerConfigRequest {
        binding: Some(BindingReference {
            name: name.into(),
            ..BindingReference::default()
        }),
        ..GetDockerConfigRequest::default()
    };
    let answer = client.get_docker_config(message).await?;
    let replica = std::str::from_utf8(&answer.fingerprint).unwrap();
    Ok(replica.parse().unwrap())
}

/// Waits until the client is connected to so many replicas.
pub(crate) async fn connected(client: &BrokerClient, replicas: usize, patience: Duration) {
    until(&format!("{replicas} replicas are connected"), patience, || {
        client.metrics().usable_replicas() == replicas
    })
    .await;
}

pub(crate) async fn until(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < patience,
            "after {} s it is not so that {what}",
            patience.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
