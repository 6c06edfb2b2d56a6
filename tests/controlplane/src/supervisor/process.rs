//! A running supervised process: its end can be awaited from any runtime, and its group never outlives its
//! handle.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::watch;

use super::watchdog::Watchdog;

/// How much of a log's end is read for an error message, in bytes.
const LOG_TAIL_BYTES: u64 = 8 * 1024;

/// How many log lines an error message shows.
const LOG_TAIL_LINES: usize = 12;

/// A process in a process group of its own. Dropping it kills the group.
pub struct Process {
    name: String,
    pid: Pid,
    log_path: PathBuf,
    exit: watch::Receiver<Option<ExitStatus>>,
    alive: Arc<Mutex<bool>>,
}

impl Process {
    /// Watches over a child that leads its own process group.
    pub(super) fn watch(
        name: String,
        child: Child,
        log_path: PathBuf,
        watchdog: Arc<Watchdog>,
    ) -> anyhow::Result<Self> {
        let pid = Pid::from_child(&child);
        let (exited, exit) = watch::channel(None);
        let alive = Arc::new(Mutex::new(true));
        let reaper = Reaper {
            child,
            pid,
            watchdog,
            alive: Arc::clone(&alive),
            exited,
        };
        // A thread and not a task: a process may be shared by tests that each have a runtime of their own.
        std::thread::Builder::new()
            .name(format!("wait-{name}"))
            .spawn(move || reaper.run())
            .context("failed to start a thread")?;
        Ok(Self {
            name,
            pid,
            log_path,
            exit,
            alive,
        })
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, which is also that of its process group.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The file that its output goes to.
    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Resolves when it has ended; any number of callers may wait, in any runtime.
    pub fn exited(&self) -> impl Future<Output = Option<ExitStatus>> + Send + use<> {
        let mut exit = self.exit.clone();
        // The sender lives until it has sent: `None` would mean that the waiting thread itself has died.
        async move {
            exit.wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|status| *status)
        }
    }

    /// Asks the group to end (SIGTERM), and kills it if it has not after `grace`.
    pub async fn terminate(&self, grace: Duration) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        if let Ok(status) = tokio::time::timeout(grace, self.exited()).await {
            return status;
        }
        self.kill();
        self.exited().await
    }

    /// Kills the group.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends a signal to the group; nothing if the process has ended.
    pub fn signal(&self, signal: Signal) {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if *alive {
            // The leader is not reaped while the lock is held, so the number is still the group's.
            signal_group(self.pid, signal);
        }
    }

    /// The end of its log, for an error message.
    pub fn log_tail(&self) -> String {
        read_tail(&self.log_path).unwrap_or_default()
    }

    /// An error that tells how it ended and what it said last.
    pub fn failure(&self) -> anyhow::Error {
        let ending = match self.exit_status() {
            Some(status) => status.to_string(),
            None => "still running".to_owned(),
        };
        anyhow!(
            "{} ended unexpectedly ({ending}); its last log lines:\n{}",
            self.name,
            self.log_tail()
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Process")
            .field("name", &self.name)
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

struct Reaper {
    child: Child,
    pid: Pid,
    watchdog: Arc<Watchdog>,
    alive: Arc<Mutex<bool>>,
    exited: watch::Sender<Option<ExitStatus>>,
}

impl Reaper {
    fn run(mut self) {
        // Waits without reaping: as long as the leader is a zombie, neither its pid nor its group id is given
        // away.
        while matches!(
            waitid(
                WaitId::Pid(self.pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT
            ),
            Err(rustix::io::Errno::INTR)
        ) {}
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        // What the leader may have started and left behind.
        signal_group(self.pid, Signal::KILL);
        self.watchdog
            .forget(self.pid.as_raw_nonzero().get().unsigned_abs());
        *alive = false;
        let status = self.child.wait();
        drop(alive);
        if let Ok(status) = status {
            self.exited.send_replace(Some(status));
        }
    }
}

/// The only failure is that nobody is left in the group, which is what is wanted.
fn signal_group(group: Pid, signal: Signal) {
    match kill_process_group(group, signal) {
        Ok(()) | Err(_) => {}
    }
}

/// The last lines of a file.
fn read_tail(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let (_, last) = lines.split_at(lines.len().saturating_sub(LOG_TAIL_LINES));
    Ok(last.join("\n"))
}
