//! Guarantee A2 over random fleets: clusters that share issuers, keys that are written, published, copied, withdrawn and
//! silent for too long, and reloads in between. After each event a token of every key and issuer is presented, cold or
//! remembered: the cluster that is found is the one of a model that knows nothing but who has what since when.

use std::sync::LazyLock;

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
    Fetch { cluster: usize, keys: Vec<usize> },
    Expire { cluster: usize },
    Hours(u32),
    Reload(Vec<Option<Written>>),
}

/// What the model knows of one cluster.
#[derive(Debug, Clone)]
struct Known {
    written: Written,
    /// Keys, and the hour since which each is shown without a break.
    shown: Vec<(usize, u32)>,
    is_expired: bool,
}

struct Scene {
    ring: KeyRing,
    hour: u32,
    authenticator: Authenticator,
    /// By the place in [`NAMES`].
    members: Vec<Option<Member>>,
    model: Vec<Option<Known>>,
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
    ]
}

fn jwks(keys: &[usize]) -> KeySet {
    let signers: Vec<&Signer> = keys.iter().map(|key| &SIGNERS[*key]).collect();
    Signer::jwks_of(&signers)
}

impl Scene {
    fn new(configuration: &[Option<Written>]) -> Self {
        let mut scene = Self {
            ring: KeyRing::default(),
            hour: 0,
            authenticator: authenticator(Vec::new()).0,
            members: vec![None; NAMES.len()],
            model: vec![None; NAMES.len()],
        };
        scene.reload(configuration);
        scene
    }

    fn play(&mut self, event: &Event) {
        match event {
            Event::Hours(hours) => self.hour += hours,
            Event::Reload(configuration) => self.reload(configuration),
            Event::Fetch { cluster, keys } => {
                let now = Duration::from_secs(3600 * u64::from(self.hour));
                if let (Some(member), Some(known)) = (&self.members[*cluster], &mut self.model[*cluster])
                    && member.is_fetched
                {
                    self.ring.admit(member, jwks(keys), now);
                    let since = |key: &usize| known.shown.iter().find(|(shown, _)| shown == key);
                    let shown = keys
                        .iter()
                        .map(|key| (*key, since(key).map_or(self.hour, |(_, hour)| *hour)));
                    known.shown = shown.collect();
                    known.is_expired = false;
                }
            }
            Event::Expire { cluster } => {
                if let (Some(member), Some(known)) = (&self.members[*cluster], &mut self.model[*cluster])
                    && member.is_fetched
                {
                    self.ring.expire(member);
                    known.is_expired = true;
                }
            }
        }
    }

    /// Who stays as it was, stays; everybody else starts from nothing.
    fn reload(&mut self, configuration: &[Option<Written>]) {
        let mut clusters = Vec::new();
        for (place, written) in configuration.iter().enumerate() {
            let Some(written) = written else {
                (self.members[place], self.model[place]) = (None, None);
                continue;
            };
            let stays = self.model[place]
                .as_ref()
                .is_some_and(|known| known.written == *written);
            if !stays {
                self.members[place] = Some(Member {
                    cluster: NAMES[place].into(),
                    issuer: ISSUERS[written.issuer].into(),
                    keys: written
                        .keys
                        .as_deref()
                        .map_or_else(KeyStore::default, |keys| KeyStore::with(jwks(keys))),
                    is_fetched: written.keys.is_none(),
                });
                self.model[place] = Some(Known {
                    written: written.clone(),
                    shown: Vec::new(),
                    is_expired: false,
                });
            }
            let mut cluster = cluster(NAMES[place], &SIGNERS[0]);
            let inner = Arc::get_mut(&mut cluster).unwrap();
            inner.config.issuer = ISSUERS[written.issuer].to_owned();
            inner.keys = self.members[place].as_ref().unwrap().keys.clone();
            clusters.push(cluster);
        }
        self.ring.enroll(self.members.iter().flatten().cloned().collect());
        self.authenticator = authenticator(clusters).0;
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (key, tokens) in TOKENS.iter().enumerate() {
            for (issuer, token) in tokens.iter().enumerate() {
                let caller = self.authenticator.caller(token).ok();
                let found = caller.as_ref().map(|caller| &*caller.cluster.config.name);
                let expected = self.expected(key, issuer).map(|place| NAMES[place]);
                prop_assert_eq!(found, expected, "key {} of {}", key, ISSUERS[issuer]);
            }
        }
        Ok(())
    }

    /// Whose a token of this key and issuer is.
    fn expected(&self, key: usize, issuer: usize) -> Option<usize> {
        let of_issuer = |place: usize| {
            let known = self.model[place].as_ref();
            known.filter(|known| known.written.issuer == issuer)
        };
        let writes = |place: &usize| {
            of_issuer(*place).is_some_and(|known| {
                known
                    .written
                    .keys
                    .as_ref()
                    .is_some_and(|keys| keys.contains(&key))
            })
        };
        if let Some(written) = (0..NAMES.len()).find(writes) {
            return Some(written);
        }
        let mut shown: Vec<(u32, usize)> = Vec::new();
        for place in 0..NAMES.len() {
            let since =
                of_issuer(place).and_then(|known| known.shown.iter().find(|(shown, _)| *shown == key));
            shown.extend(since.map(|(_, hour)| (*hour, place)));
        }
        shown.sort_unstable();
        let (first, owner) = *shown.first()?;
        let is_unrivalled = shown.get(1).is_none_or(|(second, _)| second - first >= DAY);
        let is_expired = of_issuer(owner).is_some_and(|known| known.is_expired);
        (is_unrivalled && !is_expired).then_some(owner)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn a2_cluster_that_is_found_is_the_one_whose_key_it_is(
        configuration in configuration(),
        events in proptest::collection::vec(event(), 1..24),
    ) {
        let mut scene = Scene::new(&configuration);
        scene.check()?;
        for event in &events {
            scene.play(event);
            scene.check()?;
        }
    }
}
