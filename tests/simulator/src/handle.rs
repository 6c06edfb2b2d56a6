//! A running simulator: what tests in the same process do to it and ask of it. `admin` has the same for other
//! processes.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Runtime, sync::oneshot};

use crate::{
    Addresses, Calls, ClockChange, Counters, Fault, FaultError, IssuedSecret, LogEntry, ServiceAccountToken,
    State, StateError, TokenError, world::World,
};

/// A client of the simulator that waits longer has found a fault.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A running simulator. It stops when this is dropped.
pub struct Handle {
    addresses: Addresses,
    world: Arc<World>,
    runtime: Option<Runtime>,
    ended: oneshot::Receiver<String>,
}

impl Handle {
    pub(crate) fn new(
        addresses: Addresses,
        world: Arc<World>,
        runtime: Runtime,
        ended: oneshot::Receiver<String>,
    ) -> Self {
        Self {
            addresses,
            world,
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
        self.world.certificates.authority_pem()
    }

    /// The JWKS document that a real registry behind this one must trust.
    pub fn jwks_json(&self) -> String {
        serde_json::json!(self.world.keys.acr_jwks()).to_string()
    }

    /// The JWKS document of a simulated issuer.
    ///
    /// # Errors
    /// When the simulator does not hold the issuer's keys.
    pub fn issuer_jwks_json(&self, issuer: &str) -> Result<String, TokenError> {
        self.world.issuer_jwks(issuer)
    }

    /// A ServiceAccount token of a simulated issuer.
    ///
    /// # Errors
    /// When the simulator does not hold the issuer's keys.
    pub fn service_account_token(&self, wanted: &ServiceAccountToken) -> Result<String, TokenError> {
        self.world.service_account_token(wanted)
    }

    /// The state as it is now.
    pub fn state(&self) -> Arc<State> {
        self.world.state()
    }

    /// Changes the state, or leaves it as it was if the result contradicts itself.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn update(&self, change: impl FnOnce(&mut State)) -> Result<(), StateError> {
        self.world.update(change)
    }

    /// Moves or sets simulated time.
    ///
    /// # Errors
    /// None in practice: time contradicts nothing.
    pub fn change_clock(&self, change: ClockChange) -> Result<(), StateError> {
        self.world.update(|state| change.apply(&mut state.clock))
    }

    /// Adds a fault at the end of the list and returns its name.
    ///
    /// # Errors
    /// When it could never hit, or its name is taken.
    pub fn add_fault(&self, fault: Fault) -> Result<String, FaultError> {
        self.world.add_fault(fault)
    }

    /// Removes every fault.
    pub fn clear_faults(&self) {
        self.world.faults.clear();
    }

    /// Everything as it was at the start.
    pub fn reset(&self) {
        self.world.reset();
    }

    /// Log entries after a sequence number.
    pub fn log(&self, since: u64) -> Vec<LogEntry> {
        self.world.observation.log_since(since)
    }

    /// The whole log, to be asked.
    pub fn calls(&self) -> Calls {
        Calls::new(self.log(0))
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        self.world.observation.counters()
    }

    /// Every secret that was handed out.
    pub fn issued(&self) -> Vec<IssuedSecret> {
        self.world.observation.secrets()
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

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not waiting: a hang that a test asked for would hang its end as well.
            runtime.shutdown_background();
        }
    }
}
