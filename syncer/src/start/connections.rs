//! The two connections of the syncer, each with an error that says what to do when it cannot be had.

use std::{path::PathBuf, sync::Arc, time::Duration};

use client::{BrokerClient, ClientCertificate, ClientError, ClientOptions};
use kube::Client;
use runtime::{Clock, Failure};

use crate::kube_client;

/// For so long may the API server say nothing on a connection that waits for it: a list has no deadline of its own, and a
/// watch, in which nothing may happen for as long as it lasts, is begun anew before this.
const SILENCE: Duration = Duration::from_secs(75);

/// The ways to the API server. Each has connections of its own.
pub(super) struct Kubernetes {
    /// For all the work: patient with a server that throttles it.
    pub(super) client: Client,
    /// For the Lease: a renewal that waits as long as a server asks it to is cut off before it is sent again.
    pub(super) impatient: Client,
}

/// By which the syncer proves itself to a broker that asks for one. The command line takes both files or none.
pub(super) fn certificate(
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
) -> Option<ClientCertificate> {
    let both = cert_file.zip(key_file);
    both.map(|(cert_file, key_file)| ClientCertificate { cert_file, key_file })
}

/// To the broker.
pub(super) fn broker(options: &ClientOptions) -> Result<BrokerClient, Failure> {
    // Read when it is needed; looked at here so that a wrong path is told at once.
    if let Err(error) = std::fs::metadata(&options.token_file) {
        let what = format!(
            "cannot read the token file {} (--broker-token-file)",
            options.token_file.display()
        );
        return Err(Failure::runtime(what)
            .remedy("mount a ServiceAccount token for the broker's audience")
            .source(error));
    }
    BrokerClient::new(options).map_err(|error| match &error {
        ClientError::Address { .. } | ClientError::NotHttps { .. } | ClientError::Host { .. } => {
            Failure::usage("--broker-address").source(error)
        }
        ClientError::Ca(_) | ClientError::NoSystemRoots => Failure::runtime("--broker-ca-file")
            .remedy("give a file with the certificate of the authority that signed the broker's certificate")
            .source(error),
        ClientError::Certificate(_) => Failure::runtime("--broker-client-cert-file")
            .remedy("give a PEM certificate chain, and in --broker-client-key-file its key")
            .source(error),
        ClientError::Tls(_) => Failure::runtime("cannot set up the broker's client").source(error),
    })
}

/// To the API server.
pub(super) async fn kubernetes(clock: Arc<dyn Clock>) -> Result<Kubernetes, Failure> {
    const REMEDY: &str = "run in a Pod with a ServiceAccount, or let KUBECONFIG name a file";
    let mut config = kube::Config::infer().await.map_err(|error| {
        Failure::runtime("cannot find the configuration for Kubernetes")
            .remedy(REMEDY)
            .source(error)
    })?;
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    let unusable = |error| {
        Failure::runtime("cannot use the configuration for Kubernetes")
            .remedy(REMEDY)
            .source(error)
    };
    Ok(Kubernetes {
        impatient: kube_client::impatient(config.clone()).map_err(unusable)?,
        client: kube_client::connect(config, clock).map_err(unusable)?,
    })
}
