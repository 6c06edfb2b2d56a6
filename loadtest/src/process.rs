//! What a process has used so far, as Linux tells it in `/proc`. Reads and parses; keeps nothing.

use std::time::Duration;

use anyhow::Context as _;

/// Length of a clock tick in `/proc`, in milliseconds: `USER_HZ` is 100 on every architecture that Linux exposes.
const TICK_MS: u64 = 10;

/// Fields of `/proc/PID/stat` after the name in parentheses, which is field 2: user and system time are 14 and 15.
const USER_TIME: usize = 14 - 3;
const SYSTEM_TIME: usize = 15 - 3;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessUse {
    /// User and system time of all its threads.
    pub(crate) cpu: Duration,
    /// Memory that is resident, in bytes.
    rss_bytes: u64,
    /// The most memory that was ever resident, in bytes.
    peak_rss_bytes: u64,
}

impl ProcessUse {
    /// Reads it.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))
        };
        Ok(Self {
            cpu: cpu_time(&read("stat")?).context("/proc/PID/stat is not understood")?,
            rss_bytes: bytes(&read("status")?, "VmRSS:").context("/proc/PID/status has no VmRSS")?,
            peak_rss_bytes: bytes(&read("status")?, "VmHWM:").context("/proc/PID/status has no VmHWM")?,
        })
    }

    /// Resident memory in MiB, for people.
    pub(crate) fn rss_mib(self) -> f64 {
        mebibytes(self.rss_bytes)
    }

    /// The most that it ever was.
    pub(crate) fn peak_rss_mib(self) -> f64 {
        mebibytes(self.peak_rss_bytes)
    }
}

#[expect(clippy::cast_precision_loss, reason = "no process here has 2^52 bytes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

fn cpu_time(stat: &str) -> Option<Duration> {
    // The name may hold anything, spaces and parentheses included.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Duration::from_millis(
        (ticks(USER_TIME)? + ticks(SYSTEM_TIME)?) * TICK_MS,
    ))
}

fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_an_odd_name() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 900 0 3 0 150 25 0 0 20 0 4 0 5000";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(1750)));
        assert_eq!(cpu_time("77 (a) S 1"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\ta\nVmPeak:\t 9 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!(bytes(status, "VmHWM:"), Some(2_097_152));
        assert_eq!(bytes(status, "VmRSS:"), Some(1_048_576));
        assert_eq!(bytes("Name:\ta\n", "VmHWM:"), None);
    }

    #[test]
    fn use_of_this_process_is_read() {
        let used = ProcessUse::of(std::process::id()).unwrap();
        assert!(
            used.rss_bytes > 0 && used.peak_rss_bytes >= used.rss_bytes,
            "{used:?}"
        );
    }
}
