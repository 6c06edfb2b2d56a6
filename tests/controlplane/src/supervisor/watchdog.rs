//! The watchdog: a shell of its own process group that outlives its owner by the time it takes to clean up.
//!
//! A pipe tells it that the owner is gone: the kernel closes it however the owner ends. `PR_SET_PDEATHSIG`
//! would follow the thread that spawned a process, and a test's threads end long before its process does.
//! Normal clean-up takes the same way (the owner closes the pipe and waits), so that there is one way, always
//! used.

use std::io::{PipeWriter, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail};

const SCRIPT: &str = include_str!("watchdog.sh");

/// The owner's end of a running watchdog.
pub(super) struct Watchdog {
    state: Mutex<Option<Running>>,
}

struct Running {
    pipe: PipeWriter,
    shell: Child,
}

impl Watchdog {
    /// Starts a watchdog that will remove `directory`, and the process groups it is told of.
    pub(super) fn start(directory: &Path) -> anyhow::Result<Self> {
        let (reader, pipe) = std::io::pipe().context("failed to create the watchdog's pipe")?;
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(directory)
            .current_dir("/")
            .stdin(reader)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C reaches the owner's group; the watchdog has work to do after that.
            .process_group(0)
            .spawn()
            .context("failed to start the watchdog /bin/sh")?;
        Ok(Self {
            state: Mutex::new(Some(Running { pipe, shell })),
        })
    }

    /// The write end for a process that registers itself (`launch.sh`).
    pub(super) fn pipe(&self) -> anyhow::Result<PipeWriter> {
        match self.lock().as_ref() {
            Some(running) => running
                .pipe
                .try_clone()
                .context("failed to duplicate the watchdog's pipe"),
            None => bail!("the supervisor is closed"),
        }
    }

    /// Forgets a process group. To be called while its leader is a zombie, when the number cannot be in use
    /// again.
    pub(super) fn forget(&self, group: u32) {
        self.tell(&format!("remove {group}"));
    }

    /// Has the logs copied into `directory` at the end.
    pub(super) fn keep_logs(&self, directory: &Path) {
        self.tell(&format!("keep {}", directory.display()));
    }

    /// Whether it still waits for its owner's end.
    pub(super) fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    /// Closes the pipe and waits until everything is killed and removed. Later calls do nothing.
    pub(super) fn close(&self) {
        let Some(Running { pipe, mut shell }) = self.lock().take() else {
            return;
        };
        drop(pipe);
        // The script bounds itself; a watchdog that someone else has reaped is as good as ended.
        drop(shell.wait());
    }

    fn tell(&self, line: &str) {
        if let Some(running) = self.lock().as_mut() {
            // It fails only if the watchdog was killed; then there is nobody left to tell.
            drop(running.pipe.write_all(format!("{line}\n").as_bytes()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
