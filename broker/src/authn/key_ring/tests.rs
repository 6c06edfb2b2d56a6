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
    ring.enroll(members.iter().map(|member| (*member).clone()).collect());
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
    ring.expire(&victim);
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
    ring.enroll(vec![hostile.clone(), victim.clone()]);
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
    ring.enroll(vec![victim.clone()]);
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
    ring.enroll(vec![victim.clone(), hostile.clone()]);
    ring.admit(&hostile, key.jwks(), START);
    ring.admit(&victim, key.jwks(), START);
    assert!(counted(r#"{cluster="victim"} 1"#) && counted(r#"{cluster="hostile"} 1"#));
    ring.enroll(vec![victim.clone()]);
    assert!(counted(r#"{cluster="victim"} 0"#) && !counted(r#"{cluster="hostile"} 1"#));
}
