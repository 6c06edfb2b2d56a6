//! Processes and a folder that never outlive their owner.
//!
//! A [`Supervisor`] owns a temporary folder and any number of processes. When it is closed or dropped, or
//! when its owner's process ends in any way (panic, SIGKILL), a watchdog process kills every process group
//! and removes the folder. It knows nothing of Kubernetes: the control plane, the registry and the product's
//! own processes all run under it.

mod process;
mod program;
mod watchdog;

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};

pub use process::Process;
pub use program::Program;
use watchdog::Watchdog;

/// Set to any value, it keeps the logs of every supervisor, not only of failed tests.
const KEEP_LOGS_VARIABLE: &str = "ACRPULL_KEEP_LOGS";

/// A folder and processes with one life.
pub struct Supervisor {
    name: String,
    directory: PathBuf,
    watchdog: Arc<Watchdog>,
    runs: AtomicU64,
    keeps_logs: AtomicBool,
}

/// What a program that ran to its end has said.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Supervisor {
    /// Creates the folder and starts the watchdog. The name shows in the folder's name and in that of kept
    /// logs.
    ///
    /// # Errors
    /// The temporary folder cannot be written or `/bin/sh` not started.
    pub fn new(name: &str) -> anyhow::Result<Arc<Self>> {
        let directory = tempfile::Builder::new()
            .prefix(&format!("acrpull-{name}-"))
            .tempdir()
            .context("failed to create a temporary folder")?;
        std::fs::create_dir(directory.path().join("logs"))
            .context("failed to create the folder of the logs")?;
        let watchdog = Arc::new(Watchdog::start(directory.path())?);
        // From here on the watchdog removes it.
        let supervisor = Self {
            name: name.to_owned(),
            directory: directory.keep(),
            watchdog,
            runs: AtomicU64::new(0),
            keeps_logs: AtomicBool::new(false),
        };
        if std::env::var_os(KEEP_LOGS_VARIABLE).is_some() {
            supervisor.keep_logs();
        }
        Ok(Arc::new(supervisor))
    }

    /// The folder that is removed at the end. Only the owner's user can read it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the processes' logs are.
    pub fn logs_dir(&self) -> PathBuf {
        self.directory.join("logs")
    }

    /// Starts a program; its output is appended to `<name>.log` in [`Self::logs_dir`].
    ///
    /// # Errors
    /// The program does not exist or cannot be started, or the supervisor is closed.
    pub fn spawn(&self, name: &str, program: &Program) -> anyhow::Result<Process> {
        let log_path = self.logs_dir().join(format!("{name}.log"));
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("failed to open {}", log_path.display()))?;
        let errors = log.try_clone().context("failed to duplicate a log's handle")?;
        self.spawn_into(name, program, log, errors, log_path)
    }

    /// Runs a program to its end, or kills it when the time is up.
    ///
    /// # Errors
    /// It cannot be started or exceeds `timeout`. Its own failure is in the output's status: see
    /// [`Output::success`].
    pub async fn run(&self, program: &Program, timeout: Duration) -> anyhow::Result<Output> {
        let executable = program.executable();
        let name = executable
            .file_name()
            .unwrap_or(executable.as_os_str())
            .to_string_lossy()
            .into_owned();
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let stdout_path = self.directory.join(format!("{name}-{number}.stdout"));
        let stderr_path = self.logs_dir().join(format!("{name}-{number}.stderr"));
        let create =
            |path: &Path| File::create(path).with_context(|| format!("failed to create {}", path.display()));
        let process = self.spawn_into(
            &name,
            program,
            create(&stdout_path)?,
            create(&stderr_path)?,
            stderr_path.clone(),
        )?;
        let Ok(status) = tokio::time::timeout(timeout, process.exited()).await else {
            process.kill();
            bail!(
                "{name} did not end within {timeout:?}; its last words:\n{}",
                process.log_tail()
            );
        };
        let status = status.with_context(|| format!("lost {name}"))?;
        let read = |path: &Path| -> anyhow::Result<String> {
            let bytes = std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let output = Output {
            status,
            stdout: read(&stdout_path)?,
            stderr: read(&stderr_path)?,
        };
        // The standard error stays among the logs, if there is any.
        std::fs::remove_file(&stdout_path).context("failed to remove a program's output")?;
        if output.stderr.is_empty() {
            std::fs::remove_file(&stderr_path).context("failed to remove an empty log")?;
        }
        Ok(output)
    }

    /// Keeps the logs: they are copied to `target/test-logs/<name>-<pid>` when the supervisor ends. Says so
    /// on standard error, once.
    pub fn keep_logs(&self) {
        if self.keeps_logs.swap(true, Ordering::Relaxed) {
            return;
        }
        let kept = kept_logs_dir().join(format!("{}-{}", self.name, std::process::id()));
        self.watchdog.keep_logs(&kept);
        // To the stream itself: a test that passes would have its captured output thrown away, logs kept or
        // not.
        drop(writeln!(
            std::io::stderr(),
            "the logs of {} will be kept in {}",
            self.name,
            kept.display()
        ));
    }

    /// Kills what still runs and removes the folder. Later calls do nothing; dropping does the same.
    /// While the thread panics, the logs are kept.
    pub fn close(&self) {
        if std::thread::panicking() && self.watchdog.is_open() {
            self.keep_logs();
        }
        self.watchdog.close();
        // It is there only if somebody has killed the watchdog; then this is all that can be done.
        if self.directory.exists() {
            drop(std::fs::remove_dir_all(&self.directory));
        }
    }

    fn spawn_into(
        &self,
        name: &str,
        program: &Program,
        stdout: File,
        stderr: File,
        log_path: PathBuf,
    ) -> anyhow::Result<Process> {
        let executable = program.executable();
        if !executable.is_file() {
            bail!("{} does not exist", executable.display());
        }
        let child = program
            .launch_command(&self.directory)
            .stdin(self.watchdog.pipe()?)
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to start {}", executable.display()))?;
        Process::watch(name.to_owned(), child, log_path, Arc::clone(&self.watchdog))
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.close();
    }
}

impl Output {
    /// The standard output, if the program succeeded.
    ///
    /// # Errors
    /// It failed; the error has all that it said: some programs explain themselves on standard output.
    pub fn success(self) -> anyhow::Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let said = format!("{}\n{}", self.stderr.trim_end(), self.stdout.trim_end());
        bail!("{}: {}", self.status, said.trim())
    }
}

/// `target/test-logs`, wherever `target` is: an absolute `CARGO_TARGET_DIR` replaces what it is joined to.
fn kept_logs_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap_or_else(|| Path::new("/"));
    workspace.join(target).join("test-logs")
}
