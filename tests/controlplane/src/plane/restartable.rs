//! A process that is restarted on purpose: its end is a failure only if nobody asked for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::supervisor::{Process, Program, Supervisor};

pub(super) struct Restartable {
    program: Program,
    current: Mutex<Arc<Process>>,
    /// Held while the process is down on purpose.
    turn: tokio::sync::Mutex<()>,
}

impl Restartable {
    pub(super) fn start(supervisor: &Supervisor, name: &str, program: Program) -> anyhow::Result<Self> {
        let current = Mutex::new(Arc::new(supervisor.spawn(name, &program)?));
        Ok(Self {
            program,
            current,
            turn: tokio::sync::Mutex::new(()),
        })
    }

    pub(super) fn current(&self) -> Arc<Process> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the process and starts the program again; its log goes on in the same file.
    pub(super) async fn restart(&self, supervisor: &Supervisor, grace: Duration) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let before = self.current();
        before.terminate(grace).await;
        let after = Arc::new(supervisor.spawn(before.name(), &self.program)?);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(())
    }

    /// Resolves when the process has ended by itself.
    pub(super) async fn failed(&self) -> anyhow::Error {
        loop {
            let process = self.current();
            process.exited().await;
            // Waits for a restart that may be under way; after it there is another process.
            let _turn = self.turn.lock().await;
            if self.current().pid() == process.pid() {
                return process.failure();
            }
        }
    }
}
