//! What each cluster may use, event by event. The same over random fleets, with tokens: `tests/attribution.rs`.

use prometheus_client::{encoding::text::encode, registry::Registry};

use super::{
    super::{key_claims::HELD_FOR, test_keys::Signer},
    *,
};
use crate::metrics::ClusterMetrics;

const SHARED: &str = "https://kubernetes.default.svc.cluster.local";
const START: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);

fn by_url(name: &str, issuer: &str) -> Member {
    Member {
        cluster: name.into(),
        issuer: issuer.into(),
        keys: KeyStore::default(),
        is_fetched: true,
    }
}

fn written(name: &str, issuer: &str, signer: &Signer) -> Member {
    Member {
        cluster: name.into(),
        issuer: issuer.into(),
        keys: KeyStore::with(signer.jwks()),
        is_fetched: false,
    }
}

fn ring(members: &[&Member]) -> KeyRing {
    let ring = KeyRing::default();
    ring.enroll(members.iter().map(|member| (*member).clone()).collect(), START);
    ring
}

/// One document with the keys of all of them.
fn together(signers: &[&Signer]) -> KeySet {
    Signer::jwks_of(signers)
}

fn uses(member: &Member, signers: &[&Signer]) -> bool {
    let usable: Option<Vec<_>> = member.keys.current().map(|keys| keys.thumbprints().collect());
    let expected = signers
        .iter()
        .flat_map(|signer| signer.jwks().thumbprints().collect::<Vec<_>>());
    usable.unwrap_or_default() == expected.collect::<Vec<_>>()
}

fn failure(member: &Member) -> Option<&'static str> {
    member.keys.fetches().failure
}

#[test]
fn a2_contested_key_is_left_out_and_the_rest_of_the_set_is_used() {
    let (old, new, hers) = (Signer::new("old"), Signer::new("new"), Signer::new("hers"));
    let (victim, hostile) = (by_url("victim", SHARED), by_url("hostile", SHARED));
    let ring = ring(&[&victim, &hostile]);
    assert!(ring.admit(&victim, old.jwks(), START));
    // A day later the victim rotates, and the copy is fetched first.
    let rotated = HELD_FOR;
    assert!(ring.admit(&hostile, together(&[&hers, &new]), rotated));
    assert!(uses(&hostile, &[&hers, &new]), "nobody else has shown it yet");
    ring.admit(&victim, together(&[&old, &new]), rotated + SECOND);
    assert!(uses(&victim, &[&old]), "what is uncontested lives");
    assert!(uses(&hostile, &[&hers]), "the copy is taken back");
    assert_eq!(failure(&victim), Some("shared_with_another_cluster"));
    assert_eq!(failure(&hostile), Some("shared_with_another_cluster"));
    // What is confirmed stays the very same: tokens that were verified are not forgotten.
    let before = victim.keys.current().unwrap();
    assert!(!ring.admit(&victim, together(&[&old, &new]), rotated + 2 * SECOND));
    assert!(Arc::ptr_eq(&before, &victim.keys.current().unwrap()));
    // Nor does it help to go on for days.
    ring.admit(&hostile, together(&[&hers, &new]), 9 * HELD_FOR);
    assert!(uses(&hostile, &[&hers]) && uses(&victim, &[&old]));
    // The copy goes, and the victim has its key without another fetch.
    ring.admit(&hostile, hers.jwks(), 9 * HELD_FOR + SECOND);
    assert!(uses(&victim, &[&old, &new]));
    assert_eq!((failure(&victim), failure(&hostile)), (None, None));
}

#[test]
fn a2_key_that_a_cluster_has_had_for_a_day_is_not_taken_from_it() {
    let (key, hers) = (Signer::new("a"), Signer::new("b"));
    let (victim, hostile) = (by_url("victim", SHARED), by_url("hostile", SHARED));
    let ring = ring(&[&victim, &hostile]);
    ring.admit(&victim, key.jwks(), START);
    ring.admit(&hostile, hers.jwks(), START);
    ring.admit(&victim, key.jwks(), HELD_FOR / 2);
    ring.admit(&hostile, together(&[&hers, &key]), HELD_FOR);
    assert!(uses(&victim, &[&key]) && uses(&hostile, &[&hers]));
    assert_eq!(failure(&victim), None, "nothing is wrong with it");
    assert_eq!(failure(&hostile), Some("shared_with_another_cluster"));
    // It is silent for too long: its key is used no more, and is nobody else's.
    ring.expire(&victim, HELD_FOR);
    assert!(uses(&victim, &[]) && uses(&hostile, &[&hers]));
    ring.admit(&hostile, together(&[&hers, &key]), 9 * HELD_FOR);
    assert!(uses(&hostile, &[&hers]));
    assert!(ring.admit(&victim, key.jwks(), 9 * HELD_FOR), "back");
    assert!(uses(&victim, &[&key]) && uses(&hostile, &[&hers]));
}

#[test]
fn a2_cluster_with_another_issuer_cannot_contest_a_key() {
    let key = Signer::new("a");
    let (victim, hostile) = (by_url("victim", SHARED), by_url("hostile", "https://b.example"));
    let ring = ring(&[&victim, &hostile]);
    ring.admit(&hostile, key.jwks(), START);
    ring.admit(&victim, key.jwks(), START);
    assert!(uses(&victim, &[&key]));
    assert_eq!(failure(&victim), None);
}

#[test]
fn a2_key_that_an_operator_has_written_down_is_not_contested_by_who_publishes_it() {
    let (key, hers) = (Signer::new("a"), Signer::new("b"));
    let (hostile, before) = (by_url("hostile", SHARED), by_url("victim", SHARED));
    let ring = ring(&[&hostile, &before]);
    ring.admit(&hostile, together(&[&hers, &key]), START);
    ring.admit(&before, key.jwks(), 2 * HELD_FOR);
    assert!(uses(&before, &[]), "the copy had a day");
    // A reload brings the same key in a file. It refuses nothing, and the copy is gone with it.
    let victim = written("victim", SHARED, &key);
    ring.enroll(vec![hostile.clone(), victim.clone()], 2 * HELD_FOR);
    assert!(uses(&victim, &[&key]) && uses(&hostile, &[&hers]));
    ring.admit(&hostile, together(&[&hers, &key]), 9 * HELD_FOR);
    assert!(uses(&victim, &[&key]) && uses(&hostile, &[&hers]));
    // The hostile one has nothing but the copy.
    ring.admit(&hostile, key.jwks(), 9 * HELD_FOR);
    assert!(hostile.keys.current().is_none());
}

#[test]
fn a2_cluster_that_is_gone_contests_nothing_and_is_given_nothing() {
    let key = Signer::new("a");
    let (victim, hostile) = (by_url("victim", SHARED), by_url("hostile", SHARED));
    let ring = ring(&[&victim, &hostile]);
    ring.admit(&hostile, key.jwks(), START);
    ring.admit(&victim, key.jwks(), START);
    assert!(uses(&victim, &[]) && uses(&hostile, &[]));
    ring.enroll(vec![victim.clone()], START);
    assert!(uses(&victim, &[&key]));
    // Its last fetch ends after that.
    assert!(!ring.admit(&hostile, key.jwks(), START));
    assert!(uses(&victim, &[&key]) && uses(&hostile, &[]));
}

#[test]
fn a2_contested_keys_are_counted_by_cluster() {
    let key = Signer::new("a");
    let (victim, hostile) = (by_url("victim", SHARED), by_url("hostile", SHARED));
    let mut registry = Registry::default();
    let counts = ClusterMetrics::register(&mut registry).contested_keys();
    let counted = |line: &str| {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text.contains(&format!("acrpull_broker_contested_signing_keys{line}\n"))
    };
    let ring = KeyRing::counting(counts);
    ring.enroll(vec![victim.clone(), hostile.clone()], START);
    ring.admit(&hostile, key.jwks(), START);
    ring.admit(&victim, key.jwks(), START);
    assert!(counted(r#"{cluster="victim"} 1"#) && counted(r#"{cluster="hostile"} 1"#));
    ring.enroll(vec![victim.clone()], START);
    assert!(counted(r#"{cluster="victim"} 0"#) && !counted(r#"{cluster="hostile"} 1"#));
}

/// Copies for a week, and is refused all the time.
fn copied_for_a_week(key: &Signer) -> (Member, Member, KeyRing, Duration) {
    let (victim, hostile) = (by_url("victim", SHARED), by_url("hostile", SHARED));
    let ring = ring(&[&victim, &hostile]);
    ring.admit(&victim, key.jwks(), START);
    ring.admit(&hostile, key.jwks(), HELD_FOR);
    assert!(uses(&victim, &[key]) && uses(&hostile, &[]));
    (victim, hostile, ring, 8 * HELD_FOR)
}

#[test]
fn a2_copy_that_was_always_refused_does_not_gain_by_a_break() {
    let (key, next) = (Signer::new("a"), Signer::new("b"));
    let (victim, hostile, ring, now) = copied_for_a_week(&key);
    // One answer of the victim's API server lacks the key: a replica that has not heard of it.
    ring.admit(&victim, next.jwks(), now);
    ring.admit(&hostile, key.jwks(), now);
    assert!(uses(&hostile, &[]), "the tokens by it live on");
    ring.admit(&victim, together(&[&key, &next]), now + HELD_FOR / 2);
    assert!(uses(&victim, &[&key, &next]) && uses(&hostile, &[]));
    // It is silent for days.
    ring.expire(&victim, now + 2 * HELD_FOR);
    ring.admit(&hostile, key.jwks(), now + 5 * HELD_FOR);
    assert!(uses(&hostile, &[]));
    ring.admit(&victim, key.jwks(), now + 6 * HELD_FOR);
    assert!(uses(&victim, &[&key]) && uses(&hostile, &[]));
}

#[test]
fn a2_key_that_is_withdrawn_is_nobodys_for_a_day() {
    let (key, next) = (Signer::new("a"), Signer::new("b"));
    let (victim, hostile, ring, now) = copied_for_a_week(&key);
    ring.admit(&victim, next.jwks(), now);
    ring.admit(&hostile, key.jwks(), now + HELD_FOR / 2);
    assert!(uses(&hostile, &[]));
    // Then nobody's tokens are by it any more. That it is fetched again unchanged is enough.
    assert!(ring.admit(&hostile, key.jwks(), now + HELD_FOR));
    assert!(uses(&hostile, &[&key]) && uses(&victim, &[&next]));
    // And it is not the hostile one's: back within a day, it is nobody's.
    ring.admit(&victim, together(&[&key, &next]), now + HELD_FOR + SECOND);
    assert!(uses(&hostile, &[]) && uses(&victim, &[&next]));
}

#[test]
fn a2_cluster_whose_keys_come_from_elsewhere_keeps_its_claims() {
    let key = Signer::new("a");
    let (_, hostile, ring, now) = copied_for_a_week(&key);
    let moved = by_url("victim", SHARED);
    ring.enroll(vec![hostile.clone(), moved.clone()], now);
    ring.admit(&hostile, key.jwks(), now);
    assert!(
        uses(&moved, &[]) && uses(&hostile, &[]),
        "in between it is nobody's"
    );
    ring.admit(&moved, key.jwks(), now + SECOND);
    assert!(uses(&moved, &[&key]) && uses(&hostile, &[]));
}

#[test]
fn a2_key_that_was_written_down_stays_its_clusters_when_it_is_fetched_from_then_on() {
    let key = Signer::new("a");
    let (before, hostile) = (written("victim", SHARED, &key), by_url("hostile", SHARED));
    let ring = ring(&[&before, &hostile]);
    ring.admit(&hostile, key.jwks(), START);
    let victim = by_url("victim", SHARED);
    ring.enroll(vec![hostile.clone(), victim.clone()], SECOND);
    ring.admit(&hostile, key.jwks(), 2 * SECOND);
    assert!(uses(&hostile, &[]));
    ring.admit(&victim, key.jwks(), 3 * SECOND);
    assert!(uses(&victim, &[&key]) && uses(&hostile, &[]));
}

#[test]
fn a2_cluster_that_is_enrolled_after_a_copy_has_counted_for_a_day_does_not_have_the_key() {
    let key = Signer::new("a");
    let (victim, hostile) = (by_url("victim", SHARED), by_url("hostile", SHARED));
    let ring = ring(&[&hostile]);
    ring.admit(&hostile, key.jwks(), START);
    ring.enroll(vec![hostile.clone(), victim.clone()], HELD_FOR);
    ring.admit(&victim, key.jwks(), HELD_FOR);
    assert!(uses(&hostile, &[&key]) && uses(&victim, &[]));
    assert_eq!(failure(&victim), Some("shared_with_another_cluster"));
}

#[test]
fn a2_restart_takes_no_key_from_its_owner_whoever_is_fetched_first() {
    let key = Signer::new("a");
    let (victim, hostile) = (by_url("victim", SHARED), by_url("hostile", SHARED));
    let ages = |age: Duration| key.jwks().thumbprints().map(|key| (key, age)).collect();
    let ring = ring(&[&victim, &hostile]);
    ring.admit(&hostile, key.jwks(), START);
    ring.resume(&victim, key.jwks(), ages(2 * HELD_FOR), SECOND);
    assert!(uses(&victim, &[&key]) && uses(&hostile, &[]));
    assert_eq!(ring.ages(&victim, 2 * SECOND), ages(2 * HELD_FOR + SECOND));
    assert!(ring.ages(&hostile, 2 * SECOND).is_empty());
}

/// What the cluster is told of its one contested key.
fn told(ring: &KeyRing, member: &Member) -> (String, bool) {
    let entries = ring.lock();
    let entry = entries
        .iter()
        .find(|entry| entry.member.keys.is_same(&member.keys));
    let contest = entry.unwrap().contests.first().unwrap();
    (contest.other.to_string(), contest.is_others)
}

#[test]
fn contest_names_who_uses_the_key_or_always_the_same_of_the_others() {
    let key = Signer::new("a");
    let (_, hostile, ring, now) = copied_for_a_week(&key);
    assert_eq!(told(&ring, &hostile), ("victim".to_owned(), true));
    let victim = ring
        .lock()
        .iter()
        .map(|entry| entry.member.clone())
        .find(|member| &*member.cluster == "victim");
    ring.expire(&victim.unwrap(), now);
    assert_eq!(
        told(&ring, &hostile),
        ("victim".to_owned(), false),
        "it is used by nobody"
    );
    let members = ["c", "b", "a"].map(|name| by_url(name, SHARED));
    let ring = self::ring(&members.each_ref());
    for order in [[0, 1, 2], [2, 1, 0]] {
        for index in order {
            ring.admit(&members[index], key.jwks(), now);
        }
        assert_eq!(told(&ring, &members[0]), ("a".to_owned(), false));
        assert_eq!(told(&ring, &members[2]), ("b".to_owned(), false));
    }
}
