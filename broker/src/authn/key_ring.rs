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

use super::{
    KeySet, KeyStore,
    key_claims::{Claim, HELD_FOR, owner},
    key_contests::{Contest, News},
    key_holdings::{Ages, Holdings, Thumbprint},
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
    holdings: Holdings,
    contests: BTreeSet<Contest>,
}

/// What the source of a cluster has shown last.
#[derive(Debug)]
struct Published {
    keys: KeySet,
    /// Not confirmed for too long, and used no more. Still claimed: that its cluster cannot be asked makes a key nobody else's.
    is_expired: bool,
}

/// A claim of the entry with this index.
#[derive(Debug)]
struct Claimant {
    index: usize,
    claim: Claim,
    is_withdrawn: bool,
}

/// Claims to each key of each issuer.
type Claims = BTreeMap<(Arc<str>, Thumbprint), Vec<Claimant>>;

impl KeyRing {
    /// A ring without members that counts what is contested.
    pub fn counting(metrics: ContestedKeys) -> Self {
        Self {
            entries: Mutex::default(),
            metrics,
        }
    }

    /// Takes `members` in place of those before. Those that stay keep what they have published. One whose keys come from
    /// elsewhere by now keeps the claims alone, unused: nobody is to have its keys in between.
    pub fn enroll(&self, members: Vec<Member>, now: Duration) {
        let mut ring = self.lock();
        let mut before = std::mem::take(&mut *ring);
        let mut enter = |member: Member| {
            let known = before.iter().position(|entry| {
                entry.member.cluster == member.cluster && entry.member.issuer == member.issuer
            });
            Entry::following(known.map(|index| before.swap_remove(index)), member, now)
        };
        ring.extend(members.into_iter().map(&mut enter));
        for gone in before {
            self.metrics.forget(&gone.member.cluster);
        }
        for entry in ring.iter_mut() {
            entry.holdings.forget_old(now);
        }
        let news = self.settle(&mut ring, None, now);
        drop(ring);
        News::tell(news);
    }

    /// Takes what the source of `member` shows at `now`. Whether the keys that it may use differ from before. Nothing, for
    /// one that is no member any more.
    pub(super) fn admit(&self, member: &Member, keys: KeySet, now: Duration) -> bool {
        self.change(member, now, |entry| entry.publish(keys, now))
    }

    /// Takes what the source of `member` has shown to an earlier process, with how long it had counted.
    pub(super) fn resume(&self, member: &Member, keys: KeySet, ages: Ages, now: Duration) -> bool {
        self.change(member, now, |entry| {
            entry.holdings.vouch(ages, now);
            entry.publish(keys, now)
        })
    }

    /// Ends the use of what the source of `member` has shown: nobody has confirmed it for too long.
    pub(super) fn expire(&self, member: &Member, now: Duration) {
        self.change(member, now, |entry| {
            entry.holdings.rest(now);
            match &mut entry.published {
                Some(published) => !std::mem::replace(&mut published.is_expired, true),
                None => false,
            }
        });
    }

    /// For how long each key that `member` uses has counted for it.
    pub(super) fn ages(&self, member: &Member, now: Duration) -> Ages {
        let ring = self.lock();
        let entry = ring.iter().find(|entry| entry.member.keys.is_same(&member.keys));
        entry
            .map(|entry| entry.holdings.counting(now))
            .unwrap_or_default()
    }

    /// `change` says whether it has changed anything.
    fn change(&self, member: &Member, now: Duration, change: impl FnOnce(&mut Entry) -> bool) -> bool {
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
        let mut has_lapsed = false;
        for entry in ring.iter_mut() {
            has_lapsed |= entry.holdings.forget_old(now);
        }
        let has_changed = ring.first_mut().is_some_and(change);
        if !has_lapsed && !has_changed {
            return false;
        }
        // Claims may have lapsed under every issuer.
        let concerned = (!has_lapsed).then_some(&*member.issuer);
        let news = self.settle(&mut ring, concerned, now);
        drop(ring);
        News::tell(news);
        let after = member.keys.current();
        before.as_ref().map(Arc::as_ptr) != after.as_ref().map(Arc::as_ptr)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, ring: &mut [Entry], issuer: Option<&str>, now: Duration) -> Vec<News> {
        let news = settle(ring, issuer, now);
        for News { cluster, left, .. } in &news {
            self.metrics.set(cluster, *left);
        }
        news
    }
}

impl Entry {
    /// The entry of `member`, after that of the same cluster and issuer.
    fn following(before: Option<Self>, member: Member, now: Duration) -> Self {
        let (published, mut holdings, contests) = match before {
            Some(before) if before.member.keys.is_same(&member.keys) => {
                return Self { member, ..before };
            }
            Some(before) => (None, before.holdings, before.contests),
            None => Default::default(),
        };
        let written = member.keys.current().filter(|_| !member.is_fetched);
        let written: Vec<_> = written.iter().flat_map(|keys| keys.thumbprints()).collect();
        holdings.show(written.iter().cloned(), now);
        // Whoever has written a key down knows whose it is.
        holdings.vouch(written.into_iter().map(|key| (key, HELD_FOR)).collect(), now);
        Self {
            member,
            published,
            holdings,
            contests,
        }
    }

    /// Whether anything is different.
    fn publish(&mut self, keys: KeySet, now: Duration) -> bool {
        let is_as_before = |published: &Published| !published.is_expired && published.keys.same_keys(&keys);
        if self.published.as_ref().is_some_and(is_as_before) {
            return false;
        }
        self.holdings.show(keys.thumbprints(), now);
        self.published = Some(Published {
            keys,
            is_expired: false,
        });
        true
    }

    fn is_expired(&self) -> bool {
        self.published
            .as_ref()
            .is_some_and(|published| published.is_expired)
    }

    fn claims(&self, now: Duration) -> impl Iterator<Item = (Thumbprint, Claim, bool)> {
        self.holdings.at(now).map(|held| {
            let claim = if self.member.is_fetched || held.is_withdrawn {
                Claim::Published { counted: held.age }
            } else {
                Claim::Written
            };
            (held.key.clone(), claim, held.is_withdrawn)
        })
    }

    /// Uses what is its own of what it has published. What there is to tell of it.
    fn settle(&mut self, contests: BTreeSet<Contest>) -> Option<News> {
        if let Some(published) = &self.published {
            let mine = (!published.is_expired)
                .then(|| {
                    let is_contested = |key: &[u8]| contests.iter().any(|contest| contest.key == key);
                    published.keys.without(is_contested)
                })
                .flatten();
            self.member.keys.settle(mine, !contests.is_empty());
        }
        if contests == self.contests {
            return None;
        }
        let before = std::mem::replace(&mut self.contests, contests);
        Some(News::of(&self.member.cluster, &before, &self.contests))
    }
}

/// Gives every member, or those of `issuer`, what is its own, in the order of the ring.
fn settle(ring: &mut [Entry], issuer: Option<&str>, now: Duration) -> Vec<News> {
    let is_concerned = |entry: &Entry| issuer.is_none_or(|issuer| *entry.member.issuer == *issuer);
    let mut claims = Claims::new();
    for (index, entry) in ring.iter().enumerate().filter(|(_, entry)| is_concerned(entry)) {
        for (key, claim, is_withdrawn) in entry.claims(now) {
            let of_issuer = (Arc::clone(&entry.member.issuer), key);
            let claimant = Claimant {
                index,
                claim,
                is_withdrawn,
            };
            claims.entry(of_issuer).or_default().push(claimant);
        }
    }
    let mut contests: BTreeMap<usize, BTreeSet<Contest>> = BTreeMap::new();
    for ((_issuer, key), claimants) in claims {
        let alone: Vec<Claim> = claimants.iter().map(|claimant| claimant.claim).collect();
        let owner = owner(&alone)
            .and_then(|place| claimants.get(place))
            .map(|claimant| claimant.index);
        for (index, contest) in contested(&key, owner, &claimants, ring) {
            contests.entry(index).or_default().insert(contest);
        }
        let is_written = alone.contains(&Claim::Written);
        for Claimant { index, .. } in claimants {
            let Some(entry) = ring.get_mut(index) else {
                continue;
            };
            if is_written && owner != Some(index) {
                entry.holdings.refuse(&key);
            } else if !entry.is_expired() {
                // What is expired does not count, and loses nothing by it.
                entry.holdings.decide(&key, owner == Some(index), now);
            }
        }
    }
    let entries = ring.iter_mut().enumerate();
    entries
        .filter(|(_, entry)| is_concerned(entry))
        .filter_map(|(index, entry)| entry.settle(contests.remove(&index).unwrap_or_default()))
        .collect()
}

/// Who shows the key and may not use it.
fn contested(
    key: &Thumbprint,
    owner: Option<usize>,
    claimants: &[Claimant],
    ring: &[Entry],
) -> Vec<(usize, Contest)> {
    let name = |index: usize| ring.get(index).map(|entry| Arc::clone(&entry.member.cluster));
    let is_used = |index: usize| {
        let claim = claimants.iter().find(|claimant| claimant.index == index);
        claim.is_some_and(|claimant| !claimant.is_withdrawn)
            && ring.get(index).is_some_and(|entry| !entry.is_expired())
    };
    let losers = claimants.iter();
    let losers = losers.filter(|claimant| Some(claimant.index) != owner && !claimant.is_withdrawn);
    losers
        .filter_map(|Claimant { index, .. }| {
            let others = claimants.iter().map(|claimant| claimant.index);
            let others = others.filter(|other| other != index);
            // Of several, always the same.
            let other = owner.map_or_else(|| others.filter_map(name).min(), name)?;
            let contest = Contest {
                key: key.clone(),
                other,
                is_others: owner.is_some_and(is_used),
            };
            Some((*index, contest))
        })
        .collect()
}

#[cfg(test)]
mod tests;
