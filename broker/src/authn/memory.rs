//! Tokens whose signature has been verified, by their SHA-256: it saves the signature check and nothing more. Expiry and
//! purpose are judged on every request. Bounded in number and in time; what keys have vouched for that were replaced since
//! is forgotten, and a new configuration starts with an empty memory.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;
use moka::{policy::EvictionPolicy, sync::Cache};
use runtime::clock::Moment;

use super::{Cluster, Evidence, KeySet, token::Claims};

/// Tokens remembered at most. Each costs about 300 bytes; a cluster of 10,000 bindings presents one caller token and
/// at most 10,000 subject tokens, each once per refresh.
const REMEMBERED_TOKENS: u64 = 20_000;
/// A token is verified anew after this long, so that nothing that was once concluded outlives its occasion. That is one
/// signature check per caller and 3 minutes.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(180);

/// What tells tokens apart.
pub(super) type Hash = [u8; digest::SHA256_OUTPUT_LEN];

/// The memory.
#[derive(Debug)]
pub(super) struct Memory(Cache<Hash, Arc<Verified>>);

/// What is known of a token once its signature has been verified.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) cluster: Arc<Cluster>,
    /// The set that the verifying key was in: a memory of keys that have been replaced is none.
    pub(super) keys: Arc<KeySet>,
    pub(super) claims: Claims,
    /// What the audit tells of it.
    pub(super) evidence: Arc<Evidence>,
    /// When the signature was checked.
    pub(super) at: Moment,
}

impl Memory {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(REMEMBERED_TOKENS)
                .eviction_policy(EvictionPolicy::lru())
                // By its own clock this only frees the room; what counts is checked below, by ours.
                .time_to_live(REMEMBERED_FOR)
                .build(),
        )
    }

    /// What is known of a token and still holds.
    pub(super) fn recall(&self, token: &Hash, now: Moment) -> Option<Arc<Verified>> {
        let known = self.0.get(token)?;
        (known.is_recent(now) && known.is_by_current_keys()).then_some(known)
    }

    /// Remembers what has been verified.
    pub(super) fn remember(&self, token: Hash, verified: Arc<Verified>) {
        self.0.insert(token, verified);
    }
}

impl Verified {
    /// By either clock: the time of day may be set back, and the other stands still while the machine sleeps.
    fn is_recent(&self, now: Moment) -> bool {
        let by_wall = now.wall.duration_since(self.at.wall).unwrap_or_default();
        let by_monotonic = now.monotonic.saturating_sub(self.at.monotonic);
        by_wall.max(by_monotonic) < REMEMBERED_FOR
    }

    fn is_by_current_keys(&self) -> bool {
        let current = self.cluster.keys.current();
        current.is_some_and(|keys| Arc::ptr_eq(&keys, &self.keys))
    }
}

/// What a token is remembered by.
pub(super) fn hash(token: &str) -> Hash {
    let mut hash = [0; digest::SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use runtime::Clock as _;

    use super::{
        super::{
            test_keys::Signer,
            tests::{CALLER_AUDIENCE, authenticator, claims, cluster},
        },
        *,
    };

    #[test]
    fn a1_memory_is_bounded_and_a_token_that_it_lost_is_verified_anew() {
        let signer = Signer::new("a");
        let (authenticator, clock) = authenticator(vec![cluster("first", &signer)]);
        let token = signer.sign(&claims(CALLER_AUDIENCE));
        authenticator.caller(&token).unwrap();
        let known = authenticator
            .memory
            .recall(&hash(&token), clock.moment())
            .unwrap();
        let remembered = || {
            authenticator.memory.0.run_pending_tasks();
            authenticator.memory.0.entry_count()
        };
        // A fleet that presents more tokens than there is room for, each once.
        for number in 0..REMEMBERED_TOKENS + 5_000 {
            let other = hash(&format!("token {number}"));
            authenticator.memory.remember(other, Arc::clone(&known));
            if number % 1_000 == 0 {
                assert!(remembered() <= REMEMBERED_TOKENS);
            }
        }
        assert_eq!(remembered(), REMEMBERED_TOKENS);
        let is_remembered = || {
            authenticator
                .memory
                .recall(&hash(&token), clock.moment())
                .is_some()
        };
        assert!(!is_remembered(), "it was the one unused for longest");
        assert!(authenticator.caller(&token).is_ok());
        assert!(is_remembered());
    }
}
