//! What operators are told of keys that a cluster publishes and may not use. Nothing is decided here.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::key_holdings::Thumbprint;

/// A key that a cluster has and may not use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Contest {
    pub(super) key: Thumbprint,
    /// One of the others that have it.
    pub(super) other: Arc<str>,
    /// Whether that one uses it; else nobody does.
    pub(super) is_others: bool,
}

/// What has become of the contests of one cluster.
#[derive(Debug)]
pub(super) struct News {
    pub(super) cluster: Arc<str>,
    new: Vec<Contest>,
    pub(super) left: usize,
}

impl Contest {
    /// Whether the key counts for the same cluster, or for nobody. Who else has it may come and go.
    fn says_as_much_as(&self, other: &Self) -> bool {
        let accepted_for = |contest: &Self| contest.is_others.then(|| Arc::clone(&contest.other));
        self.key == other.key && accepted_for(self) == accepted_for(other)
    }
}

impl News {
    /// What is different for `cluster`.
    pub(super) fn of(cluster: &Arc<str>, before: &BTreeSet<Contest>, now: &BTreeSet<Contest>) -> Self {
        let is_new = |contest: &&Contest| !before.iter().any(|known| known.says_as_much_as(contest));
        Self {
            cluster: Arc::clone(cluster),
            new: now.iter().filter(is_new).cloned().collect(),
            left: now.len(),
        }
    }

    /// Logs it.
    pub(super) fn tell(news: Vec<Self>) {
        for Self { cluster, new, left } in news {
            for contest in new {
                tracing::error!(
                    %cluster,
                    other = %contest.other,
                    key_thumbprint = URL_SAFE_NO_PAD.encode(&contest.key),
                    accepted_for = if contest.is_others { &*contest.other } else { "nobody" },
                    "the cluster publishes a signing key that another one of its issuer has: its tokens by that key are refused"
                );
            }
            if left == 0 {
                tracing::info!(%cluster, "no signing key of the cluster is contested any more");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contest_is_told_again_only_if_the_key_counts_for_somebody_else() {
        let contest = |other: &str, is_others| Contest {
            key: vec![1],
            other: other.into(),
            is_others,
        };
        let is_told = |before: Contest, now: Contest| {
            let news = News::of(&"a".into(), &BTreeSet::from([before]), &BTreeSet::from([now]));
            assert_eq!(news.left, 1);
            !news.new.is_empty()
        };
        assert!(
            !is_told(contest("b", false), contest("c", false)),
            "nobody's as before"
        );
        assert!(!is_told(contest("b", true), contest("b", true)));
        assert!(is_told(contest("b", false), contest("b", true)));
        assert!(is_told(contest("b", true), contest("c", true)));
    }
}
