//! Guarantee A2 over random fleets: clusters that share issuers, keys that are written, published, copied, withdrawn and
//! silent for too long, and reloads in between. After each event a token of every key and issuer is presented, cold or
//! remembered. The model is the promise and not the rule that keeps it: it notes who shows what, and for how long it has seen
//! each key count for whom.
//!
//! - A key that is written down counts for that cluster.
//! - One that has counted for a cluster for a day goes on, and counts for no other while the first claims it or did within a day.
//! - A copy that was refused has gained nothing by the time that it was there.
//! - Whoever is alone with a key has it; of several newcomers, nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use proptest::{prelude::*, sample::subsequence};

use super::*;

const ISSUERS: [&str; 2] = [ISSUER, "https://issuer.example"];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const DAY: u32 = 24;

/// Two of them have the same `kid`: what counts is the key.
static SIGNERS: LazyLock<Vec<Signer>> = LazyLock::new(|| ["k", "k", "l", "m"].map(Signer::new).into());
/// By signer, then by issuer.
static TOKENS: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| {
    let of = |signer: &Signer| {
        let token = |issuer: &&str| signer.sign(&with(claims(CALLER_AUDIENCE), "iss", json!(issuer)));
        ISSUERS.iter().map(token).collect()
    };
    SIGNERS.iter().map(of).collect()
});

/// An entry of a configuration: its issuer, and the keys that are written there, if any are.
#[derive(Debug, Clone, PartialEq)]
struct Written {
    issuer: usize,
    keys: Option<Vec<usize>>,
}

#[derive(Debug, Clone)]
enum Event {
    Fetch {
        cluster: usize,
        keys: Vec<usize>,
    },
    Expire {
        cluster: usize,
    },
    Hours(u32),
    Reload(Vec<Option<Written>>),
    /// Its keys come from another URL from now on.
    Move {
        cluster: usize,
    },
}

/// What the model knows of one cluster.
#[derive(Debug, Clone)]
struct Known {
    written: Written,
    shown: BTreeSet<usize>,
    is_expired: bool,
    /// Keys that were seen to count for it and not to be refused to it since.
    seen: BTreeMap<usize, Seen>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    hours: u32,
    /// When it ceased to show the key.
    ended: Option<u32>,
}

struct Scene {
    ring: KeyRing,
    hour: u32,
    configuration: Vec<Option<Written>>,
    authenticator: Authenticator,
    /// By the place in [`NAMES`].
    members: Vec<Option<Member>>,
    model: Vec<Option<Known>>,
    /// For whom each key of each issuer counts.
    found: BTreeMap<(usize, usize), usize>,
}

fn keys() -> impl Strategy<Value = Vec<usize>> {
    subsequence(vec![0, 1, 2, 3], 1..=3)
}

/// Written keys of two clusters never overlap: such a configuration is refused. So each cluster has one of its own to write.
fn configuration() -> impl Strategy<Value = Vec<Option<Written>>> {
    let entry = |place: usize| {
        let keys = proptest::option::weighted(0.2, Just(vec![place]));
        let written = (0..ISSUERS.len(), keys).prop_map(|(issuer, keys)| Written { issuer, keys });
        proptest::option::weighted(0.9, written)
    };
    (entry(0), entry(1), entry(2), entry(3)).prop_map(|(a, b, c, d)| vec![a, b, c, d])
}

fn event() -> impl Strategy<Value = Event> {
    let cluster = 0..NAMES.len();
    prop_oneof![
        6 => (cluster.clone(), keys()).prop_map(|(cluster, keys)| Event::Fetch { cluster, keys }),
        1 => cluster.prop_map(|cluster| Event::Expire { cluster }),
        2 => (1..2 * DAY).prop_map(Event::Hours),
        1 => configuration().prop_map(Event::Reload),
        1 => (0..NAMES.len()).prop_map(|cluster| Event::Move { cluster }),
    ]
}

fn jwks(keys: &[usize]) -> KeySet {
    let signers: Vec<&Signer> = keys.iter().map(|key| &SIGNERS[*key]).collect();
    Signer::jwks_of(&signers)
}

impl Known {
    /// Whether it claims the key, used or not.
    fn claims(&self, key: usize) -> bool {
        self.shown.contains(&key) || self.seen.contains_key(&key)
    }

    fn is_live(&self, key: usize) -> bool {
        self.shown.contains(&key) && !self.is_expired
    }

    fn has_had_a_day(&self, key: usize) -> bool {
        self.seen.get(&key).is_some_and(|seen| seen.hours >= DAY)
    }

    fn shows(&mut self, keys: &[usize], hour: u32) {
        self.shown = keys.iter().copied().collect();
        self.is_expired = false;
        for (key, seen) in &mut self.seen {
            let ended = seen.ended.unwrap_or(hour);
            seen.ended = (!self.shown.contains(key)).then_some(ended);
        }
    }
}

impl Scene {
    fn new(configuration: &[Option<Written>]) -> Self {
        let mut scene = Self {
            ring: KeyRing::default(),
            hour: 0,
            configuration: Vec::new(),
            authenticator: authenticator(Vec::new()).0,
            members: vec![None; NAMES.len()],
            model: vec![None; NAMES.len()],
            found: BTreeMap::new(),
        };
        scene.reload(configuration, None);
        scene
    }

    fn now(&self) -> Duration {
        Duration::from_secs(3600 * u64::from(self.hour))
    }

    fn play(&mut self, event: &Event) {
        let now = self.now();
        match event {
            Event::Hours(hours) => {
                self.hour += hours;
                for ((key, _issuer), place) in &self.found {
                    let seen = self.model[*place].as_mut().unwrap().seen.get_mut(key);
                    seen.unwrap().hours += hours;
                }
            }
            Event::Reload(configuration) => self.reload(configuration, None),
            Event::Move { cluster } => self.reload(&self.configuration.clone(), Some(*cluster)),
            Event::Fetch { cluster, keys } => {
                if let Some(member) = self.fetched(*cluster) {
                    self.ring.admit(&member, jwks(keys), now);
                    self.forget_old();
                    self.model[*cluster].as_mut().unwrap().shows(keys, self.hour);
                }
            }
            Event::Expire { cluster } => {
                if let Some(member) = self.fetched(*cluster) {
                    self.ring.expire(&member, now);
                    self.forget_old();
                    self.model[*cluster].as_mut().unwrap().is_expired = true;
                }
            }
        }
    }

    fn fetched(&self, cluster: usize) -> Option<Member> {
        self.members[cluster].clone().filter(|member| member.is_fetched)
    }

    /// At events only: the day may be longer, until somebody is fetched.
    fn forget_old(&mut self) {
        for known in self.model.iter_mut().flatten() {
            known
                .seen
                .retain(|_, seen| seen.ended.is_none_or(|ended| self.hour < ended + DAY));
        }
    }

    /// Who stays as it was, stays; one with the same issuer claims what it has claimed; everybody else starts from nothing.
    fn reload(&mut self, configuration: &[Option<Written>], moved: Option<usize>) {
        self.configuration = configuration.to_vec();
        let mut clusters = Vec::new();
        for (place, written) in configuration.iter().enumerate() {
            let Some(written) = written else {
                (self.members[place], self.model[place]) = (None, None);
                continue;
            };
            let before = self.model[place].take();
            let stays = before
                .as_ref()
                .is_some_and(|known| known.written == *written && moved != Some(place));
            self.model[place] = if stays {
                before
            } else {
                self.members[place] = Some(Member {
                    cluster: NAMES[place].into(),
                    issuer: ISSUERS[written.issuer].into(),
                    keys: written
                        .keys
                        .as_deref()
                        .map_or_else(KeyStore::default, |keys| KeyStore::with(jwks(keys))),
                    is_fetched: written.keys.is_none(),
                });
                let same_issuer = before.filter(|known| known.written.issuer == written.issuer);
                let mut known = Known {
                    written: written.clone(),
                    shown: BTreeSet::new(),
                    is_expired: false,
                    seen: same_issuer.map(|known| known.seen).unwrap_or_default(),
                };
                known.shows(written.keys.as_deref().unwrap_or_default(), self.hour);
                Some(known)
            };
            let mut cluster = cluster(NAMES[place], &SIGNERS[0]);
            let inner = Arc::get_mut(&mut cluster).unwrap();
            inner.config.issuer = ISSUERS[written.issuer].to_owned();
            inner.keys = self.members[place].as_ref().unwrap().keys.clone();
            clusters.push(cluster);
        }
        let members = self.members.iter().flatten().cloned().collect();
        self.ring.enroll(members, self.now());
        self.forget_old();
        self.authenticator = authenticator(clusters).0;
    }

    /// Who has this issuer and claims the key.
    fn claimants(&self, key: usize, issuer: usize) -> Vec<(usize, &Known)> {
        let all = self.model.iter().enumerate();
        all.filter_map(|(place, known)| Some((place, known.as_ref()?)))
            .filter(|(_, known)| known.written.issuer == issuer && known.claims(key))
            .collect()
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        for (key, tokens) in TOKENS.iter().enumerate() {
            for (issuer, token) in tokens.iter().enumerate() {
                let caller = self.authenticator.caller(token).ok();
                let found = caller.map(|caller| Arc::clone(&caller.cluster.config.name));
                let found = found.map(|name| NAMES.iter().position(|known| **known == *name).unwrap());
                self.is_as_promised(key, issuer, found)?;
                self.see(key, issuer, found);
            }
        }
        Ok(())
    }

    fn is_as_promised(&self, key: usize, issuer: usize, found: Option<usize>) -> Result<(), TestCaseError> {
        let claimants = self.claimants(key, issuer);
        let what = format!("key {key} of {}: {claimants:?}", ISSUERS[issuer]);
        let writer = claimants
            .iter()
            .find(|(_, known)| known.written.keys.is_some() && known.is_live(key));
        if let Some((writer, _)) = writer {
            prop_assert_eq!(found, Some(*writer), "it is written down: {}", what);
            return Ok(());
        }
        for (place, known) in &claimants {
            let is_found = found == Some(*place);
            prop_assert!(!is_found || known.is_live(key), "its cluster shows it: {}", what);
            let is_alone = claimants.len() == 1;
            if known.is_live(key) && (is_alone || known.has_had_a_day(key)) {
                prop_assert!(is_found, "{} goes on: {}", NAMES[*place], what);
            } else if is_found {
                prop_assert!(false, "first come is no proof: {}", what);
            } else if found.is_some() {
                prop_assert!(
                    !known.seen.contains_key(&key),
                    "taken from {}: {}",
                    NAMES[*place],
                    what
                );
            }
        }
        let is_claimed = |found| claimants.iter().any(|(place, _)| *place == found);
        prop_assert!(found.is_none_or(is_claimed), "found for one without it: {}", what);
        Ok(())
    }

    /// Takes note of whom the key counts for, and to whom it is refused.
    fn see(&mut self, key: usize, issuer: usize, found: Option<usize>) {
        self.found.remove(&(key, issuer));
        let found_is_written = found
            .and_then(|place| self.model[place].as_ref())
            .is_some_and(|known| known.written.keys.is_some());
        for (place, known) in self.model.iter_mut().enumerate() {
            let Some(known) = known.as_mut().filter(|known| known.written.issuer == issuer) else {
                continue;
            };
            if found == Some(place) {
                let seen = known.seen.entry(key).or_default();
                if found_is_written {
                    // Whoever writes a key down knows whose it is.
                    seen.hours = seen.hours.max(DAY);
                }
                self.found.insert((key, issuer), place);
            } else if known.is_live(key) || found_is_written {
                known.seen.remove(&key);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn a2_cluster_that_is_found_is_the_one_whose_key_it_is(
        configuration in configuration(),
        events in proptest::collection::vec(event(), 1..32),
    ) {
        let mut scene = Scene::new(&configuration);
        scene.check()?;
        for event in &events {
            scene.play(event);
            scene.check()?;
        }
    }
}
