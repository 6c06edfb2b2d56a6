//! What the tests share: waiting for what other processes do, and where kept logs are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Pid;

/// Longer than anything that is waited for takes, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) -> anyhow::Result<()> {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::time::timeout(TIMEOUT, waiting)
        .await
        .with_context(|| format!("it did not come true that {what}"))
}

/// The command lines that mention a path, with their pids; zombies aside: they have none.
fn command_lines_mentioning(path: &Path) -> Vec<(Pid, String)> {
    let needle = path.display().to_string();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        })
        .filter(|(_, line)| line.contains(&needle))
        .collect()
}

/// The command lines of the processes that mention a path.
pub(crate) fn processes_mentioning(path: &Path) -> Vec<String> {
    command_lines_mentioning(path)
        .into_iter()
        .map(|(_, line)| line)
        .collect()
}

/// One process whose command line mentions a path.
pub(crate) fn pid_of_process_mentioning(path: &Path) -> Option<Pid> {
    command_lines_mentioning(path).first().map(|(pid, _)| *pid)
}

/// Where a process keeps the logs of a supervisor.
pub(crate) fn kept_logs(supervisor: &str, pid: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .with_file_name("test-logs")
        .join(format!("{supervisor}-{pid}"))
}

/// Waits until neither a process nor the folder itself is left of what lived in a folder.
pub(crate) async fn until_nothing_is_left(folder: &Path) -> anyhow::Result<()> {
    until(&format!("nothing is left of {}", folder.display()), async || {
        processes_mentioning(folder).is_empty() && !folder.exists()
    })
    .await
}
