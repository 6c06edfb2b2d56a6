//! A token names a key that no cluster of its issuer has: a cluster may have a new one, or the token is a forgery. Decides
//! whose keys are fetched for it.
//!
//! At most one fetch per issuer and minute, whatever comes of it and however many clusters share the issuer (guarantee
//! A7): else one forged token would be worth a call to every API server of a fleet. The clusters take turns, the one
//! that was tried longest ago first. So a new key of a cluster with an issuer of its own is found at once, and that of one
//! among many with its turn, or with the next fetch that it makes anyway.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::KeyStore;

/// Between two fetches for unknown keys of one issuer.
pub(super) const COOLDOWN: Duration = Duration::from_secs(60);

/// Decides one at a time. When each cluster was last tried and asked is in its [`KeyStore`], which outlives a
/// configuration.
#[derive(Debug, Default)]
pub(super) struct UnknownKeys(Mutex<()>);

impl UnknownKeys {
    /// Takes note of a token whose key `strangers` lack; `of_issuer` are all clusters of its issuer.
    pub(super) fn noticed(&self, of_issuer: &[&KeyStore], strangers: &[&KeyStore], now: Duration) {
        let _one_at_a_time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_cooling = of_issuer
            .iter()
            .filter_map(|keys| keys.asked_at())
            .any(|at| now.saturating_sub(at) < COOLDOWN);
        if is_cooling {
            return;
        }
        // Keys that nobody fetches have never been tried.
        let tried = strangers.iter().filter(|keys| keys.tried_at().is_some());
        if let Some(next) = tried.min_by_key(|keys| keys.tried_at()) {
            next.ask(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Clusters of one issuer, tried one second after the other.
    fn fleet(size: u64) -> Vec<KeyStore> {
        let tried = |second| {
            let keys = KeyStore::default();
            keys.tried(at(second));
            keys
        };
        (0..size).map(tried).collect()
    }

    /// Which of them are asked to fetch.
    fn asked(fleet: &[KeyStore]) -> Vec<usize> {
        let is_asked = |keys: &KeyStore| keys.refetch_wanted().now_or_never().is_some();
        (0..fleet.len())
            .filter(|index| is_asked(&fleet[*index]))
            .collect()
    }

    #[test]
    fn a7_unknown_key_of_a_shared_issuer_costs_one_fetch_a_minute_in_all() {
        let fleet = fleet(100);
        let all: Vec<&KeyStore> = fleet.iter().collect();
        let unknown = UnknownKeys::default();
        let mut fetches = 0;
        // A flood of forgeries, ten a second for ten minutes.
        for tenth in 1000..7000 {
            let now = Duration::from_millis(tenth * 100);
            unknown.noticed(&all, &all, now);
            for index in asked(&fleet) {
                fetches += 1;
                fleet[index].tried(now);
            }
        }
        assert_eq!(fetches, 10);
    }

    #[test]
    fn a7_clusters_of_a_shared_issuer_take_turns_so_that_a_new_key_is_found() {
        let fleet = fleet(3);
        let all: Vec<&KeyStore> = fleet.iter().collect();
        let unknown = UnknownKeys::default();
        let mut turns = Vec::new();
        for minute in 1..=6 {
            unknown.noticed(&all, &all, at(60 * minute));
            for index in asked(&fleet) {
                turns.push(index);
                fleet[index].tried(at(60 * minute));
            }
        }
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        // One that has the key takes no turn, and one that nobody fetches for has none.
        let fixed = KeyStore::default();
        unknown.noticed(&all, &[&fixed, &fleet[1]], at(600));
        assert_eq!((asked(&fleet), asked(&[fixed])), (vec![1], vec![]));
    }
}
