//! The end of a process: the first signal starts a drain, the second ends it at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Failure;

/// Tells every part of the process that it should finish.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A shutdown that starts when [`Shutdown::start`] is called, and not on a signal.
    pub fn manual() -> Self {
        Self::default()
    }

    /// Starts on SIGTERM or SIGINT. A second signal ends the process at once with the status of a killed one.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn on_signal() -> Result<Self, Failure> {
        let install =
            |kind| signal(kind).map_err(|error| Failure::runtime("cannot handle signals").source(error));
        let mut terminate = install(SignalKind::terminate())?;
        let mut interrupt = install(SignalKind::interrupt())?;
        let shutdown = Self::manual();
        let starter = shutdown.clone();
        crate::tasks::spawn_detached(async move {
            first_of(&mut terminate, &mut interrupt).await;
            tracing::info!("shutting down; a second signal ends the process at once");
            starter.start();
            first_of(&mut terminate, &mut interrupt).await;
            end_at_once();
        });
        Ok(shutdown)
    }

    /// A shutdown of a part: starts with this one, or before it, when it is told to. This one does not start with it.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Starts the shutdown.
    pub fn start(&self) {
        self.0.cancel();
    }

    /// Whether it has started.
    pub fn has_started(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it starts.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn started(&self) {
        self.0.cancelled().await;
    }
}

async fn first_of(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[expect(clippy::exit, reason = "the second signal asks for exactly this")]
fn end_at_once() {
    /// 128 + SIGTERM, as a shell reports a process that the signal ended.
    const EXIT_TERMINATED: i32 = 143;
    std::process::exit(EXIT_TERMINATED);
}
