//! Whose a key is, among the clusters of one issuer that have it. Pure.
//!
//! Nothing in a token says which of two clusters with its issuer and its key it is of. So a key is one cluster's or nobody's:
//!
//! - one that an operator has written down is its cluster's, whoever publishes it;
//! - of clusters that publish it, it is that of the one for which it has counted for a day longer than for each of the others:
//!   who copies the key of another takes nothing from it, however long the copy stands there refused;
//! - otherwise it is nobody's. Who was fetched first proves nothing: public keys are public, and whoever watches a cluster
//!   rotate its key can have the copy fetched before the original. The owner's next fetch shows it, long before the day is
//!   over, and from then on the copy speaks for nobody.
//!
//! Clusters with different issuers have nothing to contest: `iss` tells their tokens apart, and to publish a key is not to be
//! able to sign with it.

use std::time::Duration;

/// By how much longer a key must have counted for a cluster than for another one to be kept from that one. Longer than any
/// source that is asked every five minutes can go without showing a copy (one that is silent for as long loses its
/// keys), and longer than the replicas of an API server disagree while their keys are rotated. A claim stands for as long
/// after its end: no token lives longer.
pub(super) const HELD_FOR: Duration = Duration::from_secs(24 * 3600);

/// What one cluster has to say for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// An operator has written the key down.
    Written,
    /// Its source publishes the key, or did within a day.
    Published {
        /// For how long it has counted for the cluster; not at all, where it was refused.
        counted: Duration,
    },
}

impl Claim {
    fn beats(self, other: Self) -> bool {
        match (self, other) {
            (Self::Written, Self::Published { .. }) => true,
            (Self::Published { counted }, Self::Published { counted: less }) => {
                counted >= less.saturating_add(HELD_FOR)
            }
            (_, Self::Written) => false,
        }
    }
}

/// Whose the key is, by the index of the claim.
pub(super) fn owner(claims: &[Claim]) -> Option<usize> {
    claims.iter().enumerate().find_map(|(index, claim)| {
        let mut others = claims.iter().enumerate().filter(|(other, _)| *other != index);
        others.all(|(_, other)| claim.beats(*other)).then_some(index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(hours: u64) -> Claim {
        Claim::Published {
            counted: Duration::from_secs(hours * 3600),
        }
    }

    #[test]
    fn a2_key_is_one_clusters_or_nobodys() {
        use Claim::Written;
        for (claims, expected) in [
            (vec![], None),
            (vec![Written], Some(0)),
            (vec![published(5)], Some(0)),
            // Written down, it is that cluster's from the first moment on.
            (vec![published(0), Written], Some(1)),
            (vec![published(0), Written, published(90)], Some(1)),
            (vec![Written, Written], None),
            // First come is not enough.
            (vec![published(0), published(0)], None),
            (vec![published(0), published(23)], None),
            (vec![published(24), published(0)], Some(0)),
            (vec![published(2), published(30)], Some(1)),
            // It must be a day before each of the others.
            (vec![published(48), published(25), published(0)], None),
            (vec![published(0), published(48), published(24)], Some(1)),
        ] {
            assert_eq!(owner(&claims), expected, "{claims:?}");
        }
    }
}
