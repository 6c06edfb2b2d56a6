//! What one cluster claims of the keys of its issuer, and for how long each has counted for it. Pure; whose a key is, is
//! decided elsewhere and told here.
//!
//! Only the time during which a key counted for the cluster makes its claim old. A claim that is refused has no age, however
//! long it is made: else who copies the key of another would own it at the first break of the other's. And the claim to a key
//! that counted outlives its end for a day, unused: tokens of it may live as long.

use std::{collections::BTreeMap, time::Duration};

use super::{key_claims::HELD_FOR, keys::MAX_KEYS};

/// Claims that have ended and still stand, at most. A cluster that rotates faster forgets the first of its own.
const MAX_WITHDRAWN: usize = MAX_KEYS;

/// What tells a key from all others.
pub(super) type Thumbprint = Vec<u8>;
/// For how long each key has counted.
pub(super) type Ages = BTreeMap<Thumbprint, Duration>;

/// The claims of one cluster. Time is that of the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Holdings(BTreeMap<Thumbprint, Held>);

/// The claim to one key.
#[derive(Debug, Clone, Copy)]
struct Held {
    standing: Standing,
    /// When its cluster last ceased to show it; nothing, while it does.
    withdrawn_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum Standing {
    /// It is another's, or nobody's.
    Refused,
    /// It counts, since then and for so long before.
    Counts { before: Duration, since: Duration },
    /// It has counted for so long, and is not used.
    Rests { age: Duration },
}

/// A claim at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimed<'a> {
    pub(super) key: &'a Thumbprint,
    /// For how long it has counted.
    pub(super) age: Duration,
    /// Whether the cluster shows the key no more.
    pub(super) is_withdrawn: bool,
}

impl Holdings {
    /// The cluster shows these keys and no others.
    pub(super) fn show(&mut self, keys: impl Iterator<Item = Thumbprint>, now: Duration) {
        let mut before = std::mem::take(&mut self.0);
        for key in keys {
            let standing = before
                .remove(&key)
                .map_or(Standing::Refused, |held| held.standing);
            self.0.insert(
                key,
                Held {
                    standing,
                    withdrawn_at: None,
                },
            );
        }
        let ended = before
            .into_iter()
            .filter_map(|(key, held)| Some((key, held.end(now)?)));
        self.0.extend(ended);
        self.bound();
    }

    /// These keys have counted for so long already, by who is trusted with it.
    pub(super) fn vouch(&mut self, ages: Ages, now: Duration) {
        for (key, age) in ages {
            let held = self.0.entry(key).or_insert(Held {
                standing: Standing::Refused,
                withdrawn_at: None,
            });
            held.standing = Standing::Rests {
                age: age.max(held.standing.age(now)),
            };
        }
    }

    /// Its cluster uses none of them for now, and claims them still.
    pub(super) fn rest(&mut self, now: Duration) {
        for held in self.0.values_mut() {
            held.standing = held.standing.at_rest(now);
        }
    }

    /// What was decided of a key that the cluster shows and could use.
    pub(super) fn decide(&mut self, key: &Thumbprint, counts: bool, now: Duration) {
        if let Some(held) = self.0.get_mut(key)
            && held.withdrawn_at.is_none()
        {
            held.standing = match (counts, held.standing) {
                (false, _) => Standing::Refused,
                (true, counting @ Standing::Counts { .. }) => counting,
                (true, before) => Standing::Counts {
                    before: before.age(now),
                    since: now,
                },
            };
        }
    }

    /// An operator has said that the key is another's: nothing is left of any claim before that.
    pub(super) fn refuse(&mut self, key: &Thumbprint) {
        if let Some(held) = self.0.get_mut(key) {
            held.standing = Standing::Refused;
            if held.withdrawn_at.is_some() {
                self.0.remove(key);
            }
        }
    }

    /// Forgets claims that ended a day ago. Whether there were any.
    pub(super) fn forget_old(&mut self, now: Duration) -> bool {
        let before = self.0.len();
        self.0.retain(|_, held| {
            held.withdrawn_at
                .is_none_or(|at| now < at.saturating_add(HELD_FOR))
        });
        self.0.len() < before
    }

    /// All claims that stand.
    pub(super) fn at(&self, now: Duration) -> impl Iterator<Item = Claimed<'_>> {
        self.0.iter().map(move |(key, held)| Claimed {
            key,
            age: held.standing.age(now),
            is_withdrawn: held.withdrawn_at.is_some(),
        })
    }

    /// The keys that count.
    pub(super) fn counting(&self, now: Duration) -> Ages {
        let counting = self.0.iter();
        let counting = counting.filter(|(_, held)| matches!(held.standing, Standing::Counts { .. }));
        counting
            .map(|(key, held)| (key.clone(), held.standing.age(now)))
            .collect()
    }

    fn bound(&mut self) {
        let ended = self
            .0
            .iter()
            .filter_map(|(key, held)| Some((held.withdrawn_at?, key.clone())));
        let mut ended: Vec<_> = ended.collect();
        ended.sort_unstable();
        let too_many = ended.len().saturating_sub(MAX_WITHDRAWN);
        for (_, key) in ended.into_iter().take(too_many) {
            self.0.remove(&key);
        }
    }
}

impl Held {
    /// What is left of it once the key is not shown. Of what was refused, nothing.
    fn end(self, now: Duration) -> Option<Self> {
        let withdrawn_at = Some(self.withdrawn_at.unwrap_or(now));
        let standing = self.standing.at_rest(now);
        (!matches!(standing, Standing::Refused)).then_some(Self {
            standing,
            withdrawn_at,
        })
    }
}

impl Standing {
    fn age(self, now: Duration) -> Duration {
        match self {
            Self::Refused => Duration::ZERO,
            Self::Counts { before, since } => before.saturating_add(now.saturating_sub(since)),
            Self::Rests { age } => age,
        }
    }

    fn at_rest(self, now: Duration) -> Self {
        match self {
            Self::Refused => Self::Refused,
            Self::Counts { .. } | Self::Rests { .. } => Self::Rests { age: self.age(now) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_claims_that_have_ended_are_bounded_in_number_and_in_time() {
        let mut holdings = Holdings::default();
        let at = |second: u64| Duration::from_secs(second);
        for second in 0..100_u8 {
            let now = at(second.into());
            holdings.show(std::iter::once(vec![second]), now);
            holdings.decide(&vec![second], true, now);
        }
        let keys = |holdings: &Holdings| -> Vec<u8> { holdings.at(at(99)).map(|held| held.key[0]).collect() };
        let all: Vec<u8> = (99 - 16..100).collect();
        assert_eq!(keys(&holdings), all, "the last ones, and the one that is shown");
        assert!(!holdings.forget_old(at(83) + HELD_FOR));
        assert!(holdings.forget_old(at(84) + HELD_FOR));
        assert_eq!(keys(&holdings), all[1..]);
    }
}
