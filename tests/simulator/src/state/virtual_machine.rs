//! The virtual machine whose metadata service the IMDS listener is.

use serde::{Deserialize, Serialize};

/// One machine: which identities it has, and how much its metadata service bears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VirtualMachine {
    /// Object ID of the system-assigned identity.
    pub system_assigned: Option<String>,
    /// Resource IDs of the user-assigned identities.
    pub user_assigned: Vec<String>,
    /// Requests per second for managed identity tokens, documented as 20.
    pub imds_rps: u32,
    /// Concurrent requests, documented as 5.
    pub imds_concurrency: u32,
    /// A cached token is handed out again while it has more than this left. The cache is documented, its
    /// margin is not.
    pub cache_margin_s: i64,
    /// `Retry-After` of a 429. Unverified; absent unless given.
    pub throttle_retry_after_s: Option<u32>,
    /// Refuse requests that were forwarded. Unverified; yes unless given.
    pub refuse_forwarded: bool,
    /// Without a selector, a single user-assigned identity is taken. Unverified; yes unless given.
    pub single_identity_is_default: bool,
    /// What `expires_in` of a cached token counts. Unverified; what remains unless given.
    pub expires_in: ExpiresIn,
}

/// What `expires_in` of a cached token counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiresIn {
    /// Seconds left now.
    #[default]
    Remaining,
    /// Seconds it lived when it was issued.
    Lifetime,
}

impl Default for VirtualMachine {
    fn default() -> Self {
        Self {
            system_assigned: None,
            user_assigned: Vec::new(),
            imds_rps: 20,
            imds_concurrency: 5,
            cache_margin_s: 300,
            throttle_retry_after_s: None,
            refuse_forwarded: true,
            single_identity_is_default: true,
            expires_in: ExpiresIn::Remaining,
        }
    }
}
