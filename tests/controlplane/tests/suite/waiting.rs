//! Waiting for what other processes do.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

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

/// The processes whose command line mentions a path, zombies aside: theirs is empty.
pub(crate) fn processes_mentioning(path: &Path) -> Vec<String> {
    let needle = path.display().to_string();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&needle))
        .collect()
}

/// Waits until neither a process nor the folder itself is left of what lived in a folder.
pub(crate) async fn until_nothing_is_left(folder: &Path) -> anyhow::Result<()> {
    until(&format!("nothing is left of {}", folder.display()), async || {
        processes_mentioning(folder).is_empty() && !folder.exists()
    })
    .await
}
