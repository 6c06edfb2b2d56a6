//! The `audit` section as it is written.

use std::path::PathBuf;

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Audit {
    #[serde(default)]
    pub(in crate::config) sink: AuditSink,
    #[serde(default)]
    pub(in crate::config) on_blocked: OnBlocked,
    pub(in crate::config) key_file: Option<PathBuf>,
    pub(in crate::config) strangers_per_second: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::config) enum AuditSink {
    #[default]
    Stdout,
    File(PathBuf),
    Off,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::config) enum OnBlocked {
    #[default]
    Continue,
    Refuse,
}
