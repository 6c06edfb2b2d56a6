//! Starts the listeners and holds them: [`Simulator::builder`], then a [`Handle`].
//!
//! The simulator runs on threads of its own. A test whose runtime is busy or paused must not look like a slow Azure, and
//! one simulator may serve tests that each have a runtime.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    runtime::{Builder as RuntimeBuilder, Runtime},
    sync::oneshot,
};

use crate::{
    Calls, ClockChange, Counters, Fault, FaultError, IssuedSecret, LogEntry, Service, ServiceAccountToken,
    State, StateError, TokenError, admin,
    listeners::{Upstreams, accept},
    world::World,
};

/// Any free port of the loopback interface.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Enough for signatures not to hold up other requests on a small machine.
const THREADS: usize = 2;

/// A client of the simulator that waits longer has found a fault.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the simulator is to be started from.
#[derive(Debug)]
pub struct Simulator;

/// What to start.
#[derive(Debug, Clone)]
pub struct Builder {
    state: State,
    seed: u64,
    addresses: Addresses,
}

/// The listeners' addresses: those to listen on before the start, those that came of it afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// Entra, https.
    pub entra: SocketAddr,
    /// Every registry, https.
    pub acr: SocketAddr,
    /// The metadata service, http.
    pub imds: SocketAddr,
    /// The egress proxy, http.
    pub proxy: SocketAddr,
    /// The admin API, http.
    pub admin: SocketAddr,
}

/// A running simulator. It stops when this is dropped.
pub struct Handle {
    addresses: Addresses,
    world: Arc<World>,
    runtime: Option<Runtime>,
    ended: oneshot::Receiver<String>,
}

impl Simulator {
    /// Starts describing one.
    pub fn builder() -> Builder {
        let addresses = Addresses {
            entra: ANY_PORT,
            acr: ANY_PORT,
            imds: ANY_PORT,
            proxy: ANY_PORT,
            admin: ANY_PORT,
        };
        Builder {
            state: State::default(),
            seed: 0,
            addresses,
        }
    }
}

impl Builder {
    /// What exists.
    #[must_use]
    pub fn state(mut self, state: State) -> Self {
        self.state = state;
        self
    }

    /// Where chance starts from.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Where to listen; free ports of the loopback interface unless given.
    #[must_use]
    pub fn addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// Makes keys and starts to listen. Connections are accepted when this returns.
    ///
    /// # Errors
    /// When the state contradicts itself, or an address cannot be listened on.
    pub async fn start(self) -> anyhow::Result<Handle> {
        let Self {
            state,
            seed,
            addresses,
        } = self;
        let world = tokio::task::spawn_blocking(move || World::new(state, seed))
            .await
            .context("the keys were not made")??;
        let world = Arc::new(world);
        let runtime = RuntimeBuilder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("azure-simulator")
            .enable_all()
            .build()
            .context("the simulator has no threads")?;
        match listen(&runtime, &world, addresses).await {
            Ok((addresses, ended)) => Ok(Handle {
                addresses,
                world,
                runtime: Some(runtime),
                ended,
            }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }
}

/// Binds everything first, so that a port in use is found before anything is served.
async fn listen(
    runtime: &Runtime,
    world: &Arc<World>,
    wanted: Addresses,
) -> anyhow::Result<(Addresses, oneshot::Receiver<String>)> {
    let bind = async move {
        Ok::<_, anyhow::Error>([
            bound("entra", wanted.entra).await?,
            bound("acr", wanted.acr).await?,
            bound("imds", wanted.imds).await?,
            bound("proxy", wanted.proxy).await?,
            bound("admin", wanted.admin).await?,
        ])
    };
    // A socket belongs to the runtime on which it was bound.
    let [entra, acr, imds, proxy, admin] = runtime
        .spawn(bind)
        .await
        .context("the listeners were not bound")??;
    let addresses = Addresses {
        entra: entra.local_addr()?,
        acr: acr.local_addr()?,
        imds: imds.local_addr()?,
        proxy: proxy.local_addr()?,
        admin: admin.local_addr()?,
    };
    let upstreams = Upstreams {
        entra: addresses.entra,
        acr: addresses.acr,
    };
    let router = admin::router(Arc::clone(world));
    let serve = |service, listener| accept(Arc::clone(world), service, upstreams, listener);
    let listeners = (
        serve(Service::Entra, entra),
        serve(Service::Acr, acr),
        serve(Service::Imds, imds),
        serve(Service::Proxy, proxy),
    );
    let (failed, ended) = oneshot::channel();
    runtime.spawn(async move {
        let reason = tokio::select! {
            () = listeners.0 => "entra",
            () = listeners.1 => "acr",
            () = listeners.2 => "imds",
            () = listeners.3 => "proxy",
            _ended = axum::serve(admin, router) => "admin",
        };
        // Nobody has to be there to hear it.
        drop(failed.send(format!("listener {reason} ended")));
    });
    Ok((addresses, ended))
}

async fn bound(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address} for {name}: free the port or choose another"))
}

impl Handle {
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

    /// An HTTP client that reaches Azure's names through the egress proxy and trusts the simulator, and nobody else.
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
