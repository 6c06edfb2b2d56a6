//! No two clusters share a key: each could speak for the other. Checked here whenever keys or clusters change, so that a
//! fetch and a reload that happen at the same time cannot pass each other by.
//!
//! The lock is held for comparisons in memory only, never across I/O.

use std::sync::{Arc, Mutex, PoisonError};

use super::{KeySet, KeyStore};

/// The key stores of all configured clusters.
#[derive(Debug, Default)]
pub struct KeyRing(Mutex<Vec<Member>>);

/// A cluster and its keys.
#[derive(Debug, Clone)]
pub struct Member {
    /// The cluster.
    pub cluster: Arc<str>,
    /// Its keys of the moment.
    pub keys: KeyStore,
}

/// Two clusters with one key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cluster:?} and {other:?} share a signing key: each could speak for the other")]
pub struct SharedKey {
    /// One of them.
    pub cluster: Arc<str>,
    /// The other.
    pub other: Arc<str>,
}

impl KeyRing {
    /// Takes `members` in place of those before, unless two of them have a key in common at this moment.
    ///
    /// # Errors
    /// Two of them have; nothing has changed then.
    pub fn enroll(&self, members: Vec<Member>) -> Result<(), SharedKey> {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, member) in members.iter().enumerate() {
            let others = members.iter().take(index);
            if let Some(keys) = member.keys.current()
                && let Some(other) = sharer(&keys, others)
            {
                return Err(SharedKey {
                    cluster: Arc::clone(&other.cluster),
                    other: Arc::clone(&member.cluster),
                });
            }
        }
        *ring = members;
        Ok(())
    }

    /// Gives `member` these keys, unless another member has one of them. Whether they differ from before.
    ///
    /// # Errors
    /// Another member has; what `member` had, it keeps.
    pub(super) fn admit(&self, member: &Member, keys: KeySet) -> Result<bool, SharedKey> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = ring.iter().filter(|other| !other.keys.is_same(&member.keys));
        if let Some(other) = sharer(&keys, others) {
            return Err(SharedKey {
                cluster: Arc::clone(&member.cluster),
                other: Arc::clone(&other.cluster),
            });
        }
        Ok(member.keys.replace(keys))
    }
}

fn sharer<'a>(keys: &KeySet, mut among: impl Iterator<Item = &'a Member>) -> Option<&'a Member> {
    let wanted: Vec<_> = keys.thumbprints().collect();
    among.find(|member| {
        member
            .keys
            .current()
            .is_some_and(|theirs| theirs.thumbprints().any(|key| wanted.contains(&key)))
    })
}

#[cfg(test)]
mod tests {
    use super::{super::test_keys::Signer, *};

    fn member(name: &str, signer: &Signer) -> Member {
        Member {
            cluster: name.into(),
            keys: KeyStore::with(signer.jwks()),
        }
    }

    fn shared(cluster: &str, other: &str) -> SharedKey {
        SharedKey {
            cluster: cluster.into(),
            other: other.into(),
        }
    }

    #[test]
    fn a2_fetched_key_of_another_cluster_is_refused() {
        let (first, second) = (Signer::new("a"), Signer::new("b"));
        let ring = KeyRing::default();
        let (one, two) = (member("first", &first), member("second", &second));
        ring.enroll(vec![one.clone(), two.clone()]).unwrap();
        assert_eq!(ring.admit(&one, second.jwks()), Err(shared("first", "second")));
        assert!(one.keys.current().unwrap().same_keys(&first.jwks()), "kept");
        assert_eq!(ring.admit(&one, first.jwks()), Ok(false), "its own");
        assert_eq!(ring.admit(&one, Signer::new("c").jwks()), Ok(true), "a new one");
    }

    #[test]
    fn a2_cluster_with_a_key_that_was_fetched_for_another_is_not_enrolled() {
        let (first, second) = (Signer::new("a"), Signer::new("b"));
        let ring = KeyRing::default();
        let fetched = Member {
            cluster: "fetched".into(),
            keys: KeyStore::default(),
        };
        ring.enroll(vec![fetched.clone()]).unwrap();
        ring.admit(&fetched, first.jwks()).unwrap();
        // A reload brings the same key in a file.
        let refused = ring.enroll(vec![fetched.clone(), member("fixed", &first)]);
        assert_eq!(refused, Err(shared("fetched", "fixed")));
        // Nothing has changed: what was refused is not a member that others would have to respect.
        assert_eq!(ring.admit(&fetched, second.jwks()), Ok(true));
    }
}
