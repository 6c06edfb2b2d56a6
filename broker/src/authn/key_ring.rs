//! The keys of all clusters together: what each may use of what it has, so that no two of one issuer use the same key and
//! could speak for each other. Whose a key is, [`key_claims`](super::key_claims) says; here it is brought about whenever keys
//! or clusters change, under one lock, so that a fetch and a reload at the same time cannot pass each other by.
//!
//! A key that is another's, or nobody's, is left out; the rest of its set is used. What somebody publishes can therefore
//! refuse no configuration, and lets no key of another cluster grow old.
//!
//! The lock is held for comparisons in memory only, never across I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    KeySet, KeyStore,
    key_claims::{Claim, owner},
};
use crate::metrics::ContestedKeys;

/// What the members of the ring have.
#[derive(Debug, Default)]
pub struct KeyRing {
    entries: Mutex<Vec<Entry>>,
    metrics: ContestedKeys,
}

/// A cluster and its keys.
#[derive(Debug, Clone)]
pub struct Member {
    /// The cluster.
    pub cluster: Arc<str>,
    /// The `iss` of its tokens.
    pub issuer: Arc<str>,
    /// The keys that it may use at the moment.
    pub keys: KeyStore,
    /// Whether they come from a source and not from an operator.
    pub is_fetched: bool,
}

#[derive(Debug)]
struct Entry {
    member: Member,
    published: Option<Published>,
    contests: BTreeSet<Contest>,
}

/// What the source of a cluster has shown last.
#[derive(Debug)]
struct Published {
    keys: KeySet,
    since: BTreeMap<Thumbprint, Duration>,
    /// Not confirmed for too long, and used no more. Still claimed: that its cluster cannot be asked makes a key nobody else's.
    is_expired: bool,
}

/// A key that a cluster has and may not use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Contest {
    key: Thumbprint,
    /// One of the others that have it.
    other: Arc<str>,
    /// Whether it is that one's; else it is nobody's.
    is_others: bool,
}

/// What has become of the contests of one cluster.
#[derive(Debug)]
struct News {
    cluster: Arc<str>,
    new: Vec<Contest>,
    left: usize,
}

type Thumbprint = Vec<u8>;
/// Claims to each key of each issuer, with the index of the entry.
type Claims = BTreeMap<(Arc<str>, Thumbprint), Vec<(usize, Claim)>>;

impl KeyRing {
    /// A ring without members that counts what is contested.
    pub fn counting(metrics: ContestedKeys) -> Self {
        Self {
            entries: Mutex::default(),
            metrics,
        }
    }

    /// Takes `members` in place of those before. Those that stay keep what they have published.
    pub fn enroll(&self, members: Vec<Member>) {
        let mut ring = self.lock();
        let mut before = std::mem::take(&mut *ring);
        let mut enter = |member: Member| {
            let known = before
                .iter()
                .position(|entry| entry.member.keys.is_same(&member.keys));
            let (published, contests) = known.map_or_else(Default::default, |index| {
                let entry = before.swap_remove(index);
                (entry.published, entry.contests)
            });
            Entry {
                member,
                published,
                contests,
            }
        };
        ring.extend(members.into_iter().map(&mut enter));
        for gone in before {
            self.metrics.forget(&gone.member.cluster);
        }
        let news = self.settle(&mut ring, None);
        drop(ring);
        tell(news);
    }

    /// Takes what the source of `member` shows at `now`. Whether the keys that it may use differ from before. Nothing, for
    /// one that is no member any more.
    pub(super) fn admit(&self, member: &Member, keys: KeySet, now: Duration) -> bool {
        self.change(member, |entry| entry.publish(keys, now))
    }

    /// Ends the use of what the source of `member` has shown: nobody has confirmed it for too long.
    pub(super) fn expire(&self, member: &Member) {
        self.change(member, |entry| match &mut entry.published {
            Some(published) => !std::mem::replace(&mut published.is_expired, true),
            None => false,
        });
    }

    /// `change` says whether it has changed anything.
    fn change(&self, member: &Member, change: impl FnOnce(&mut Entry) -> bool) -> bool {
        let mut ring = self.lock();
        let Some(index) = ring
            .iter()
            .position(|entry| entry.member.keys.is_same(&member.keys))
        else {
            return false;
        };
        // Whose keys change is settled first: what it gives up is out of use before another one takes it up.
        if let Some(first) = ring.get_mut(..=index) {
            first.rotate_right(1);
        }
        let before = member.keys.current();
        if !ring.first_mut().is_some_and(change) {
            return false;
        }
        let news = self.settle(&mut ring, Some(&member.issuer));
        drop(ring);
        tell(news);
        let after = member.keys.current();
        before.as_ref().map(Arc::as_ptr) != after.as_ref().map(Arc::as_ptr)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, ring: &mut [Entry], issuer: Option<&str>) -> Vec<News> {
        let news = settle(ring, issuer);
        for News { cluster, left, .. } in &news {
            self.metrics.set(cluster, *left);
        }
        news
    }
}

impl Entry {
    /// Whether anything is different.
    fn publish(&mut self, keys: KeySet, now: Duration) -> bool {
        let is_as_before = |published: &Published| !published.is_expired && published.keys.same_keys(&keys);
        if self.published.as_ref().is_some_and(is_as_before) {
            return false;
        }
        let before = self.published.take().map(|published| published.since);
        let before = before.unwrap_or_default();
        let since = keys
            .thumbprints()
            .map(|key| {
                let since = before.get(&key).copied().unwrap_or(now);
                (key, since)
            })
            .collect();
        self.published = Some(Published {
            keys,
            since,
            is_expired: false,
        });
        true
    }

    fn claims(&self) -> BTreeMap<Thumbprint, Claim> {
        let published = self.published.iter().flat_map(|published| &published.since);
        let published = published.map(|(key, since)| (key.clone(), Claim::Published { since: *since }));
        let written = self.member.keys.current().filter(|_| !self.member.is_fetched);
        let written = written.iter().flat_map(|keys| keys.thumbprints());
        published
            .chain(written.map(|key| (key, Claim::Written)))
            .collect()
    }

    /// Uses what is its own of what it has published. What there is to tell of it.
    fn settle(&mut self, contests: BTreeSet<Contest>) -> Option<News> {
        let published = self.published.as_ref()?;
        let mine = (!published.is_expired)
            .then(|| {
                let is_contested = |key: &[u8]| contests.iter().any(|contest| contest.key == key);
                published.keys.without(is_contested)
            })
            .flatten();
        self.member.keys.settle(mine, !contests.is_empty());
        if contests == self.contests {
            return None;
        }
        let before = std::mem::replace(&mut self.contests, contests);
        Some(News {
            cluster: Arc::clone(&self.member.cluster),
            new: self.contests.difference(&before).cloned().collect(),
            left: self.contests.len(),
        })
    }
}

/// Gives every member, or those of `issuer`, what is its own, in the order of the ring.
fn settle(ring: &mut [Entry], issuer: Option<&str>) -> Vec<News> {
    let is_concerned = |entry: &Entry| issuer.is_none_or(|issuer| *entry.member.issuer == *issuer);
    let mut claims = Claims::new();
    for (index, entry) in ring.iter().enumerate().filter(|(_, entry)| is_concerned(entry)) {
        for (key, claim) in entry.claims() {
            let of_issuer = (Arc::clone(&entry.member.issuer), key);
            claims.entry(of_issuer).or_default().push((index, claim));
        }
    }
    let mut contests: BTreeMap<usize, BTreeSet<Contest>> = BTreeMap::new();
    for ((_issuer, key), claims) in claims {
        for (index, contest) in contested(&key, &claims, ring) {
            contests.entry(index).or_default().insert(contest);
        }
    }
    let entries = ring.iter_mut().enumerate();
    entries
        .filter(|(_, entry)| is_concerned(entry))
        .filter_map(|(index, entry)| entry.settle(contests.remove(&index).unwrap_or_default()))
        .collect()
}

/// Who may not use the key, of those that claim it.
fn contested(key: &Thumbprint, claims: &[(usize, Claim)], ring: &[Entry]) -> Vec<(usize, Contest)> {
    let alone: Vec<Claim> = claims.iter().map(|(_, claim)| *claim).collect();
    let owner = owner(&alone)
        .and_then(|place| claims.get(place))
        .map(|(index, _)| *index);
    let losers = claims.iter().map(|(index, _)| *index);
    let losers = losers.filter(|index| Some(*index) != owner);
    losers
        .filter_map(|index| {
            let others = claims.iter().map(|(other, _)| *other);
            let other = owner.or_else(|| others.into_iter().find(|other| *other != index))?;
            let contest = Contest {
                key: key.clone(),
                other: Arc::clone(&ring.get(other)?.member.cluster),
                is_others: owner.is_some(),
            };
            Some((index, contest))
        })
        .collect()
}

fn tell(news: Vec<News>) {
    for News { cluster, new, left } in news {
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

#[cfg(test)]
mod tests;
