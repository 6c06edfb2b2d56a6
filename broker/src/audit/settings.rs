//! What of the audit log may change while the process runs.

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;

use super::fingerprint::FingerprintKey;
use crate::config::{AuditConfig, OnBlocked};

/// As the configuration of the moment says.
pub(super) struct Settings {
    pub(super) key: Arc<FingerprintKey>,
    pub(super) is_random: bool,
    pub(super) on_blocked: OnBlocked,
}

impl Settings {
    /// Those of a configuration. A random key stays for as long as no other is configured.
    ///
    /// # Errors
    /// One is needed, and the machine has no randomness.
    pub(super) fn new(config: AuditConfig, before: Option<&Self>) -> Result<Self, Unspecified> {
        let AuditConfig {
            sink: _for_the_next_start,
            on_blocked,
            key,
            strangers_per_second: _for_all_callers,
        } = config;
        let (key, is_random) = match (key, before) {
            (Some(key), _) => (Arc::new(key), false),
            (None, Some(before)) if before.is_random => (Arc::clone(&before.key), true),
            (None, _) => (Arc::new(FingerprintKey::random()?), true),
        };
        Ok(Self {
            key,
            is_random,
            on_blocked,
        })
    }
}
