//! What the audit log is to do. What it is: [`audit`](crate::audit).

use std::path::PathBuf;

use crate::audit::FingerprintKey;

/// Enough to see an attack in single records, and not enough to fill a disk with one: some 300 MB a day.
const STRANGERS_PER_SECOND: u32 = 10;

/// The `audit` section.
#[derive(Debug)]
pub struct AuditConfig {
    /// Where records go.
    pub sink: AuditSink,
    /// What becomes of a call whose record cannot be written.
    pub on_blocked: OnBlocked,
    /// What fingerprints are made with; without it, a key that dies with the process.
    pub key: Option<FingerprintKey>,
    /// Refusals before anything was asked that get a record of their own, per second: of callers whom nobody knows, and of
    /// each cluster's.
    pub strangers_per_second: u32,
}

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditSink {
    /// Standard output, one record per line; logs are on standard error.
    Stdout,
    /// The end of this file.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// What becomes of a call whose record cannot be written in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBlocked {
    /// It is answered, and the missing record is counted.
    Continue,
    /// It is refused.
    Refuse,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            sink: AuditSink::Stdout,
            on_blocked: OnBlocked::Continue,
            key: None,
            strangers_per_second: STRANGERS_PER_SECOND,
        }
    }
}
