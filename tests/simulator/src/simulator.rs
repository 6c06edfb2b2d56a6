//! Starts the listeners and holds them: [`Simulator::builder`], then a [`Handle`].
//!
//! The simulator runs on threads of its own. A test whose runtime is busy or paused must not look like a slow
//! Azure, and one simulator may serve tests that each have a runtime.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    runtime::{Builder as RuntimeBuilder, Runtime},
    sync::oneshot,
};

use crate::{
    Handle, InProcess, Service, State, admin, clock,
    listeners::{Upstreams, accept},
    world::World,
};

/// Any free port of the loopback interface.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Enough for signatures not to hold up other requests on a small machine.
const THREADS: usize = 2;

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
        let world = tokio::task::spawn_blocking(move || World::new(state, seed, clock::of_the_machine()))
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
            Ok((addresses, ended)) => Ok(Handle::new(addresses, InProcess::of(world), runtime, ended)),
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
