//! How long the tokens of a cluster may live: who is deleted there can go on for as long.

use std::time::Duration;

use super::field::{ConfigError, content};

/// Where nothing is written. A kubelet asks for an hour, some API servers grant it with 7 s on top; a minute is room for
/// others that round.
pub const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(3660);
/// No API server issues shorter ones, in seconds.
const LEAST: u64 = 600;
/// In seconds. The longest that the webhook of Azure Workload Identity asks for.
const MOST: u64 = 86_400;

pub(super) fn token_lifetime(field: &str, seconds: Option<u64>) -> Result<Duration, ConfigError> {
    match seconds {
        None => Ok(DEFAULT_TOKEN_LIFETIME),
        Some(seconds @ LEAST..=MOST) => Ok(Duration::from_secs(seconds)),
        Some(seconds) => Err(content(
            field,
            format!("{seconds} must be from {LEAST} (no API server issues shorter tokens) to {MOST}"),
        )),
    }
}
