//! Notices that a file has changed.
//!
//! A ConfigMap or Secret volume swaps a symlink two directories up, a projected token is replaced by rename, an editor
//! writes in place: reading the content on a timer sees all of them, and nothing can be missed. The files are small.

use std::{path::PathBuf, time::Duration};

use crate::Shutdown;

/// How often the content is read. A configuration change takes effect within 10 s of reaching the disk (guarantee A6).
pub const POLL_PERIOD: Duration = Duration::from_secs(2);

/// Calls `changed` with the contents of all `paths` whenever one of them differs from before, until shutdown.
///
/// A file that cannot be read counts as unchanged: a volume is being swapped, or somebody deleted it; what is loaded stays.
pub async fn on_change(paths: Vec<PathBuf>, shutdown: Shutdown, mut changed: impl FnMut() + Send) {
    let mut known: Vec<Option<Vec<u8>>> = Vec::new();
    for path in &paths {
        known.push(tokio::fs::read(path).await.ok());
    }
    loop {
        tokio::select! {
            () = shutdown.started() => return,
            () = tokio::time::sleep(POLL_PERIOD) => {}
        }
        let mut any = false;
        for (path, known) in paths.iter().zip(&mut known) {
            match tokio::fs::read(path).await {
                Ok(content) if known.as_ref() != Some(&content) => {
                    *known = Some(content);
                    any = true;
                }
                Ok(_same) => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot read a watched file; keeping what is loaded");
                }
            }
        }
        if any {
            changed();
        }
    }
}
