//! The admin listener: `/livez`, `/healthz`, `/readyz`, `/metrics`. Plain HTTP, apart from the listener that serves callers.

mod listener;

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::registry::Registry;

use crate::{Failure, Shutdown};

/// What OpenMetrics scrapers expect (OpenMetrics 1.0, "Overall structure").
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Ready when every gate is open. Gates concern the process itself and never a remote party:
/// an outage of Azure must not take healthy replicas out of service.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Vec<Arc<GateState>>>>);

/// One thing that must have happened once before the process is ready.
#[derive(Debug, Clone)]
pub struct Gate(Arc<GateState>);

#[derive(Debug)]
struct GateState {
    name: String,
    open: AtomicBool,
}

#[derive(Clone)]
struct HealthState {
    readiness: Readiness,
    shutdown: Shutdown,
}

impl Readiness {
    /// Adds a closed gate.
    pub fn gate(&self, name: impl Into<String>) -> Gate {
        let gate = Arc::new(GateState {
            name: name.into(),
            open: AtomicBool::new(false),
        });
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&gate));
        Gate(gate)
    }

    /// The names of the gates that are still closed.
    pub fn waiting_for(&self) -> Vec<String> {
        let gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates
            .iter()
            .filter(|gate| !gate.open.load(Ordering::Acquire))
            .map(|gate| gate.name.clone())
            .collect()
    }
}

impl Gate {
    /// Opens the gate; it never closes again.
    pub fn open(&self) {
        self.0.open.store(true, Ordering::Release);
    }
}

/// All admin routes.
pub fn router(registry: Registry, readiness: Readiness, shutdown: Shutdown) -> Router {
    health(readiness, shutdown).merge(metrics(registry))
}

/// The routes for probes; `/healthz` is the older name of `/livez`. `/readyz` answers 503 as soon as the shutdown starts,
/// so that a load balancer sees the drain.
pub fn health(readiness: Readiness, shutdown: Shutdown) -> Router {
    Router::new()
        .route("/livez", get(async || "ok"))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .with_state(HealthState { readiness, shutdown })
}

/// The route for scrapers.
pub fn metrics(registry: Registry) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .with_state(Arc::new(registry))
}

/// Serves `router` on `listener` to the end of the process, also while the rest of it drains: start it with
/// [`crate::Tasks::spawn_to_the_end`].
///
/// # Errors
/// The listener cannot be registered with the runtime.
pub fn serve(listener: TcpListener, router: Router) -> Result<impl Future<Output = ()> + Send, Failure> {
    let listener = tokio::net::TcpListener::from_std(listener)
        .map_err(|error| Failure::runtime("cannot use the admin listener").source(error))?;
    Ok(listener::serve(listener, router))
}

async fn ready(State(state): State<HealthState>) -> impl IntoResponse {
    if state.shutdown.has_started() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down".to_owned());
    }
    match state.readiness.waiting_for().as_slice() {
        [] => (StatusCode::OK, "ok".to_owned()),
        waiting => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for: {}", waiting.join(", ")),
        ),
    }
}

async fn scrape(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, OPENMETRICS)], text),
        Err(error) => {
            tracing::error!(%error, "cannot encode the metrics");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                [(header::CONTENT_TYPE, "text/plain")],
                "cannot encode".to_owned(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_waits_for_every_gate() {
        let readiness = Readiness::default();
        let (config, keys) = (readiness.gate("configuration"), readiness.gate("keys"));
        assert_eq!(readiness.waiting_for(), ["configuration", "keys"]);
        keys.open();
        assert_eq!(readiness.waiting_for(), ["configuration"]);
        config.open();
        assert!(readiness.waiting_for().is_empty());
    }
}
