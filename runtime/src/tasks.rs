//! Supervised tasks: one that ends before its time, or panics at any time, makes the process end as a failure. Nothing
//! dies unseen.

use std::{future::Future, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{Failure, Shutdown};

/// The long-running tasks of a process, and the supervisor of them.
#[derive(Debug)]
pub struct Tasks {
    spawner: Spawner,
    ended_rx: mpsc::UnboundedReceiver<Ended>,
}

/// Starts supervised tasks, also after the process has started. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spawner {
    shutdown: Shutdown,
    tracker: TaskTracker,
    ended_tx: mpsc::UnboundedSender<Ended>,
}

/// A task that should not have ended, or not so.
#[derive(Debug)]
struct Ended {
    name: &'static str,
    how: &'static str,
}

impl Tasks {
    /// No tasks yet. All of them are expected to end once `shutdown` starts.
    pub fn new(shutdown: Shutdown) -> Self {
        // Unbounded, yet short: the first message ends the process, and each task sends one at most.
        let (ended_tx, ended_rx) = mpsc::unbounded_channel();
        Self {
            spawner: Spawner {
                shutdown,
                tracker: TaskTracker::new(),
                ended_tx,
            },
            ended_rx,
        }
    }

    /// The shutdown that ends these tasks.
    pub fn shutdown(&self) -> &Shutdown {
        &self.spawner.shutdown
    }

    /// For parts that start tasks later.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Starts a task that must run until shutdown and ends then. If it ends or panics before, the process ends.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawner.spawn_until(&self.spawner.shutdown, name, task);
    }

    /// Starts a task that must run for as long as the process: nobody waits for it in the drain.
    pub fn spawn_to_the_end(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let never = Shutdown::manual();
        spawn_detached(self.spawner.watched(never, name, task));
    }

    /// Waits for shutdown, or for a task to end before its time; then gives all of them `grace` to finish.
    ///
    /// # Errors
    /// A task ended before its time, panicked in the drain, or did not finish within the grace period.
    pub async fn run_until_done(mut self, grace: Duration) -> Result<(), Failure> {
        let Spawner {
            shutdown, tracker, ..
        } = &self.spawner;
        let early = tokio::select! {
            () = shutdown.started() => None,
            ended = self.ended_rx.recv() => ended,
        };
        shutdown.start();
        tracker.close();
        let drained = tokio::time::timeout(grace, tracker.wait()).await;
        // What went wrong first is what matters; a task that broke in the drain is as broken as any other.
        if let Some(Ended { name, how }) = early.or_else(|| self.ended_rx.try_recv().ok()) {
            return Err(Failure::runtime(format!("the task {name} {how}"))
                .remedy("see the log above for its last words"));
        }
        drained.map_err(|_elapsed| {
            Failure::runtime(format!(
                "some tasks did not finish within {} s of the shutdown",
                grace.as_secs()
            ))
        })
    }
}

impl Spawner {
    /// The shutdown of the process.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Starts a task that must run until `stop` and ends then; with `stop` a [`Shutdown::child`] of the process's own,
    /// it can be ended on purpose. If it ends before, or panics, the process ends.
    pub fn spawn_until(
        &self,
        stop: &Shutdown,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tracker.spawn(self.watched(stop.clone(), name, task));
    }

    /// Runs `task` in a task of its own and reports its end, should it come before `stop` or be a panic.
    fn watched(
        &self,
        stop: Shutdown,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let running = spawn_detached(task.instrument(tracing::info_span!("task", name)));
        let ended_tx = self.ended_tx.clone();
        async move {
            let how = match running.await {
                Ok(()) if stop.has_started() => return,
                Ok(()) => "ended",
                Err(error) if error.is_panic() => "panicked",
                Err(_cancelled) => "was cancelled",
            };
            // Nobody listens any more once the drain is over; there is nothing left to tell.
            if ended_tx.send(Ended { name, how }).is_err() {
                tracing::debug!(name, how, "a task ended after its supervisor");
            }
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

    const GRACE: Duration = Duration::from_secs(5);

    /// A supervisor with one task that does what it should.
    fn tasks_with_a_steady_one() -> Tasks {
        let tasks = Tasks::new(Shutdown::manual());
        let shutdown = tasks.shutdown().clone();
        tasks.spawn("steady", async move { shutdown.started().await });
        tasks
    }

    async fn failure_of(tasks: Tasks) -> String {
        tasks.run_until_done(GRACE).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn tasks_one_that_panics_ends_the_process() {
        let tasks = tasks_with_a_steady_one();
        tasks.spawn("fragile", async { panic!("on purpose") });
        let failure = failure_of(tasks).await;
        assert!(failure.starts_with("the task fragile panicked"), "{failure}");
    }

    #[tokio::test]
    async fn tasks_one_that_ends_early_ends_the_process() {
        let tasks = tasks_with_a_steady_one();
        tasks.spawn_to_the_end("short", async {});
        let failure = failure_of(tasks).await;
        assert!(failure.starts_with("the task short ended"), "{failure}");
    }

    #[tokio::test]
    async fn tasks_that_end_on_shutdown_end_well() {
        let tasks = tasks_with_a_steady_one();
        tasks.shutdown().start();
        tasks.run_until_done(GRACE).await.unwrap();
    }

    #[tokio::test]
    async fn tasks_one_that_panics_in_the_drain_is_a_failure() {
        let tasks = tasks_with_a_steady_one();
        let shutdown = tasks.shutdown().clone();
        tasks.spawn("fragile", async move {
            shutdown.started().await;
            panic!("on purpose");
        });
        tasks.shutdown().start();
        let failure = failure_of(tasks).await;
        assert!(failure.starts_with("the task fragile panicked"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_one_for_the_whole_process_that_ends_in_the_drain_is_a_failure() {
        let tasks = tasks_with_a_steady_one();
        let shutdown = tasks.shutdown().clone();
        tasks.spawn_to_the_end("admin", {
            let shutdown = shutdown.clone();
            async move { shutdown.started().await }
        });
        tasks.spawn("draining", async move {
            shutdown.started().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
        tasks.shutdown().start();
        let failure = failure_of(tasks).await;
        assert!(failure.starts_with("the task admin ended"), "{failure}");
    }

    #[tokio::test]
    async fn spawner_task_that_is_stopped_on_purpose_ends_nothing_else() {
        let tasks = tasks_with_a_steady_one();
        let stop = tasks.shutdown().child();
        let (ended_tx, ended_rx) = tokio::sync::oneshot::channel();
        tasks.spawner().spawn_until(&stop, "replaceable", {
            let stop = stop.clone();
            async move {
                stop.started().await;
                ended_tx.send(()).unwrap();
            }
        });
        stop.start();
        ended_rx.await.unwrap();
        assert!(!tasks.shutdown().has_started());
        tasks.shutdown().start();
        tasks.run_until_done(GRACE).await.unwrap();
    }
}
