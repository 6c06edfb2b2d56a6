//! A clock that can be set, for a machine of its own: what an administrator does, or a time server that finds a clock
//! wrong, while the processes go on.
//!
//! The processes are those that the product ships. They ask the C library for the time of day, and a library that is
//! loaded before it (`LD_PRELOAD`) answers, see `clock/set.c`. The time that passes is that of this machine.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::process::Command;

/// The library, in C: what overrides a function of the C library cannot be written in safe Rust.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/clock/set.c");
/// Names the file to it.
const FILE: &str = "ACRPULL_E2E_CLOCK";

/// Clones are the same clock.
#[derive(Debug, Clone)]
pub struct Clock {
    library: PathBuf,
    /// By how many seconds it is ahead: a number of 64 bits as this machine writes it.
    ahead: Arc<File>,
    ahead_path: PathBuf,
}

impl Clock {
    /// A clock that is right. Its files are put into this folder, which must not exist.
    ///
    /// # Errors
    /// There is no C compiler, or the folder cannot be written.
    pub async fn new(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).context("failed to create the folder of a clock")?;
        let (library, ahead_path) = (folder.join("set.so"), folder.join("ahead"));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", SOURCE, "-o"]);
        let output = compiler.arg(&library).kill_on_drop(true).output().await;
        let output = output.context("failed to run cc: install a C compiler")?;
        if !output.status.success() {
            bail!("cc {SOURCE} failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let ahead = File::create_new(&ahead_path).context("failed to create the file of a clock")?;
        let clock = Self {
            library,
            ahead: Arc::new(ahead),
            ahead_path,
        };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it, at once, to so many seconds ahead of the true time, or behind it where that is negative.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn set(&self, ahead_s: i64) -> anyhow::Result<()> {
        let written = self.ahead.write_all_at(&ahead_s.to_ne_bytes(), 0);
        written.context("failed to write the file of a clock")
    }

    /// What a process needs in its environment to go by it.
    pub fn environment(&self) -> [(&'static str, &OsStr); 2] {
        [
            ("LD_PRELOAD", self.library.as_os_str()),
            (FILE, self.ahead_path.as_os_str()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    async fn time_of_day(clock: &Clock) -> SystemTime {
        let mut date = Command::new("date");
        date.arg("+%s").env_clear().envs(clock.environment());
        let output = date.output().await.unwrap();
        let seconds = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[tokio::test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the true time is what it is compared with"
    )]
    async fn clock_that_is_set_is_what_a_process_goes_by() {
        const MINUTE: Duration = Duration::from_secs(60);
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::new(&folder.path().join("clock")).await.unwrap();
        for ahead_s in [0, 7_200, -7_200, 0] {
            clock.set(ahead_s).unwrap();
            let wrong = time_of_day(&clock).await;
            let expected = if ahead_s < 0 {
                SystemTime::now() - Duration::from_secs(ahead_s.unsigned_abs())
            } else {
                SystemTime::now() + Duration::from_secs(ahead_s.unsigned_abs())
            };
            assert!(
                wrong > expected - MINUTE && wrong < expected + MINUTE,
                "{ahead_s}"
            );
        }
    }
}
