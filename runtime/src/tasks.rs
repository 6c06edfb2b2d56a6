//! Supervised tasks: one that ends before its time takes the process with it. Nothing dies unseen.

use std::{future::Future, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{Failure, Shutdown};

/// The long-running tasks of a process.
#[derive(Debug)]
pub struct Tasks {
    shutdown: Shutdown,
    tracker: TaskTracker,
    ended_tx: mpsc::UnboundedSender<Ended>,
    ended_rx: mpsc::UnboundedReceiver<Ended>,
}

#[derive(Debug)]
struct Ended {
    name: &'static str,
    how: &'static str,
}

impl Tasks {
    /// No tasks yet. All of them are expected to end once `shutdown` starts.
    pub fn new(shutdown: Shutdown) -> Self {
        // Unbounded, yet never longer than the number of tasks: each sends once.
        let (ended_tx, ended_rx) = mpsc::unbounded_channel();
        Self {
            shutdown,
            tracker: TaskTracker::new(),
            ended_tx,
            ended_rx,
        }
    }

    /// The shutdown that ends these tasks.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Starts a task that must run until shutdown and ends then. If it ends or panics before, the process ends.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(self.watched(name, task));
    }

    /// Starts a task that must run for as long as the process: nobody waits for it in the drain.
    pub fn spawn_to_the_end(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        spawn_detached(self.watched(name, task));
    }

    /// Runs `task` in a task of its own and reports its end, should it come before the shutdown.
    fn watched(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let running = spawn_detached(task.instrument(tracing::info_span!("task", name)));
        let (shutdown, ended) = (self.shutdown.clone(), self.ended_tx.clone());
        async move {
            let how = match running.await {
                Ok(()) => "ended",
                Err(error) if error.is_panic() => "panicked",
                Err(_cancelled) => "was cancelled",
            };
            // Nobody listens any more once the drain is over; there is nothing left to tell.
            if !shutdown.has_started() && ended.send(Ended { name, how }).is_err() {
                tracing::debug!(name, how, "a task ended after its supervisor");
            }
        }
    }

    /// Waits for shutdown, or for a task to end before its time; then gives all of them `grace` to finish.
    ///
    /// # Errors
    /// A task ended before its time, or did not finish within the grace period.
    pub async fn run_until_done(mut self, grace: Duration) -> Result<(), Failure> {
        let early = tokio::select! {
            () = self.shutdown.started() => None,
            ended = self.ended_rx.recv() => ended,
        };
        self.shutdown.start();
        self.tracker.close();
        let drained = tokio::time::timeout(grace, self.tracker.wait()).await;
        match (early, drained) {
            (Some(Ended { name, how }), _) => Err(Failure::runtime(format!("the task {name} {how}"))
                .remedy("see the log above for its last words")),
            (None, Err(_elapsed)) => Err(Failure::runtime(format!(
                "some tasks did not finish within {} s of the shutdown",
                grace.as_secs()
            ))),
            (None, Ok(())) => Ok(()),
        }
    }
}

/// Starts work whose end somebody awaits or that may end at any time; its panic reaches whoever awaits the handle.
#[expect(clippy::disallowed_methods, reason = "the one place where tasks start")]
pub fn spawn_detached<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_one_that_panics_ends_the_process() {
        let tasks = Tasks::new(Shutdown::manual());
        let shutdown = tasks.shutdown().clone();
        tasks.spawn("steady", async move { shutdown.started().await });
        tasks.spawn("fragile", async { panic!("on purpose") });
        let failure = tasks.run_until_done(Duration::from_secs(5)).await.unwrap_err();
        assert!(
            failure.to_string().starts_with("the task fragile panicked"),
            "{failure}"
        );
    }

    #[tokio::test]
    async fn tasks_that_end_on_shutdown_end_well() {
        let tasks = Tasks::new(Shutdown::manual());
        let shutdown = tasks.shutdown().clone();
        tasks.spawn("steady", {
            let shutdown = shutdown.clone();
            async move { shutdown.started().await }
        });
        shutdown.start();
        tasks.run_until_done(Duration::from_secs(5)).await.unwrap();
    }
}
