//! Serves probes and metrics where the command line says. All listeners are bound before anything is served, and serve
//! to the end of the process.

use std::net::TcpListener;

use prometheus_client::registry::Registry;
use runtime::{
    Failure, Shutdown, Tasks,
    admin::{self, Readiness},
    listen,
};

use crate::args::{ListenerArgs, Serves};

/// Bound, not served yet.
pub(crate) struct AdminListeners(Vec<(TcpListener, Serves)>);

/// Binds every listener.
///
/// # Errors
/// The addresses contradict each other, or one of them cannot be used.
pub(crate) fn bind(args: &ListenerArgs) -> Result<AdminListeners, Failure> {
    let listeners = args.listeners()?.into_iter().map(|listener| {
        let bound = listen::bind(listener.flag, listener.address)?;
        Ok((bound, listener.serves))
    });
    Ok(AdminListeners(listeners.collect::<Result<_, Failure>>()?))
}

impl AdminListeners {
    /// Serves all of them.
    ///
    /// # Errors
    /// A listener cannot be registered with the runtime.
    pub(crate) fn serve(
        self,
        tasks: &Tasks,
        registry: Registry,
        readiness: Readiness,
        shutdown: Shutdown,
    ) -> Result<(), Failure> {
        let health = admin::health(readiness, shutdown);
        let metrics = admin::metrics(registry);
        for (listener, serves) in self.0 {
            let router = match serves {
                Serves::Health => health.clone(),
                Serves::Metrics => metrics.clone(),
                Serves::Both => health.clone().merge(metrics.clone()),
            };
            tasks.spawn_to_the_end("admin", admin::serve(listener, router)?);
        }
        Ok(())
    }
}
