//! A running simulator: the simulated Azure, which it leads to, and the listeners that it keeps running. `admin` has
//! the same for other processes.

use std::{ops::Deref, time::Duration};

use tokio::{runtime::Runtime, sync::oneshot};

use crate::{Addresses, InProcess};

/// A client of the simulator that waits longer has found a fault.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A running simulator. It stops when this is dropped.
pub struct Handle {
    addresses: Addresses,
    azure: InProcess,
    runtime: Option<Runtime>,
    ended: oneshot::Receiver<String>,
}

impl Handle {
    pub(crate) fn new(
        addresses: Addresses,
        azure: InProcess,
        runtime: Runtime,
        ended: oneshot::Receiver<String>,
    ) -> Self {
        Self {
            addresses,
            azure,
            runtime: Some(runtime),
            ended,
        }
    }

    /// Where the listeners are.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The certificate to trust.
    pub fn ca_pem(&self) -> &str {
        self.azure.world().certificates.authority_pem()
    }

    /// An HTTP client that reaches Azure's names through the egress proxy and trusts the simulator, and
    /// nobody else.
    ///
    /// # Errors
    /// When the HTTP client cannot take the certificate or the proxy.
    pub fn client(&self) -> reqwest::Result<reqwest::ClientBuilder> {
        let proxy = reqwest::Proxy::https(format!("http://{}", self.addresses.proxy))?;
        Ok(self.direct_client()?.proxy(proxy))
    }

    /// The same without a proxy: for addresses, or with [`reqwest::ClientBuilder::resolve`].
    ///
    /// # Errors
    /// When the HTTP client cannot take the certificate.
    pub fn direct_client(&self) -> reqwest::Result<reqwest::ClientBuilder> {
        let certificate = reqwest::Certificate::from_pem(self.ca_pem().as_bytes())?;
        Ok(reqwest::Client::builder()
            .timeout(CLIENT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_certs_only([certificate]))
    }

    /// Waits until a listener ends by itself, which it never should, and says which.
    pub async fn failure(&mut self) -> String {
        (&mut self.ended)
            .await
            .unwrap_or_else(|_dropped| "the simulator's threads ended".to_owned())
    }
}

/// A handle is a pointer to the Azure that it keeps running: what can be asked of it and done to it is the same
/// with and without sockets.
impl Deref for Handle {
    type Target = InProcess;

    fn deref(&self) -> &InProcess {
        &self.azure
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not waiting: a hang that a test asked for would hang its end as well.
            runtime.shutdown_background();
        }
    }
}
