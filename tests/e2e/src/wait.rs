//! Waiting for what takes its time, with a deadline and an error that shows what was there instead.

use std::fmt::Display;
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// How often something is looked at. Short beside what is waited for, long beside one look.
const INTERVAL: Duration = Duration::from_millis(50);

/// Looks again and again until there is something. `Err` from the look itself ends the wait.
///
/// # Errors
/// The look failed, or `deadline` has passed; then the error shows the last description of what was missing.
pub async fn poll<T, D: Display>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Result<T, D>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match look().await? {
            Ok(found) => return Ok(found),
            Err(missing) if Instant::now() >= end => bail!("{what}: not within {deadline:?}; {missing}"),
            Err(_missing) => tokio::time::sleep(INTERVAL).await,
        }
    }
}

/// Waits until a condition holds.
///
/// # Errors
/// The look failed, or `deadline` has passed.
pub async fn wait_for(
    what: &str,
    deadline: Duration,
    mut holds: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    poll(what, deadline, async || {
        Ok(holds().await?.then_some(()).ok_or("it never came true"))
    })
    .await
}
