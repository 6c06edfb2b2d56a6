use k8s_openapi::jiff::{SignedDuration, ToSpan as _};
use proptest::prelude::*;

use super::*;
use crate::samples::{binding, now, workload_identity_spec};

const FOREIGN: &str = "example.com/backup";

/// The binding in this version, with or without the peer's finalizer, and always with that of somebody else.
pub(crate) fn seen(version: &str, is_there: bool) -> Binding {
    let mut binding = binding("web", workload_identity_spec());
    binding.metadata.resource_version = Some(version.to_owned());
    let finalizers = [FOREIGN, PEERS].into_iter().take(1 + usize::from(is_there));
    binding.metadata.finalizers = Some(finalizers.map(str::to_owned).collect());
    binding
}

/// A binding from which the finalizer was removed in version 100.
fn removed_from(returns: u32) -> Handover {
    removed("100".to_owned(), returns, now(), 0.0)
}

fn returned(after: &Handover, at: Timestamp) -> Handover {
    observe(Some(after.clone()), &seen("102", true), at, 0.0).unwrap()
}

#[test]
fn b26_finalizer_of_the_peer_is_to_be_removed_and_no_other() {
    assert_eq!(claim(None, &seen("100", false), now()), Claim::Ours);
    let inherited = seen("100", true);
    assert_eq!(observe(None, &inherited, now(), 0.0), None);
    assert_eq!(
        claim(None, &inherited, now()),
        Claim::Inherited { not_before: None }
    );
    assert_eq!(
        removal(&inherited.metadata),
        json!({"metadata": {"uid": "uid-of-web", "resourceVersion": "100", "finalizers": [FOREIGN]}})
    );
}

#[test]
fn finalizer_that_stays_away_makes_the_binding_ours() {
    let removed = after_removal(None, "100".to_owned(), now(), 0.5);
    let until = now() + 22.seconds() + 500.milliseconds();
    for (version, is_there) in [("100", true), ("101", false)] {
        let seen = seen(version, is_there);
        assert_eq!(
            observe(Some(removed.clone()), &seen, now(), 0.0),
            Some(removed.clone()),
            "a watch that lags behind shows no return"
        );
        assert_eq!(claim(Some(&removed), &seen, now()), Claim::Settling { until });
        assert_eq!(claim(Some(&removed), &seen, until), Claim::Ours);
    }
}

#[test]
fn finalizer_that_comes_back_means_another_controller_until_somebody_wants_something() {
    let returned = returned(&removed_from(0), now());
    let (back, next_at) = (seen("102", true), now() + 5.minutes());
    assert_eq!(
        claim(Some(&returned), &back, now()),
        Claim::Contested { until: Some(next_at) }
    );
    assert_eq!(
        claim(Some(&returned), &back, next_at),
        Claim::Contested { until: None }
    );
    let mut changed = back.clone();
    changed.metadata.generation = Some(4);
    let mut requested = back;
    requested
        .annotations_mut()
        .insert(REFRESH_REQUESTED.to_owned(), "now".to_owned());
    for wanted in [changed, requested] {
        assert_eq!(
            claim(Some(&returned), &wanted, now()),
            Claim::Contested { until: None }
        );
    }
}

#[test]
fn finalizer_that_was_back_is_contested_until_it_has_stayed_away() {
    let returned = returned(&removed_from(0), now());
    let until = now() + 15.seconds();
    let again = after_removal(Some(&returned), "102".to_owned(), now(), 0.0);
    let by_others = observe(Some(returned), &seen("103", false), now(), 0.0).unwrap();
    for known in [again, by_others] {
        let gone = seen("103", false);
        assert_eq!(
            claim(Some(&known), &gone, now()),
            Claim::Contested { until: Some(until) }
        );
        assert_eq!(claim(Some(&known), &gone, until), Claim::Ours);
    }
}

#[test]
fn finalizer_that_comes_back_again_and_again_is_removed_ever_less_often() {
    let mut time = now();
    let mut known = removed_from(0);
    let mut removals = 0;
    while elapsed(now(), time) < Duration::from_secs(4 * 60 * 60) {
        let Handover::Returned { next_at, .. } = returned(&known, time) else {
            panic!("it came back");
        };
        assert!(elapsed(time, next_at) <= LONGEST_PAUSE);
        known = after_removal(Some(&returned(&known, time)), "100".to_owned(), next_at, 0.0);
        time = next_at;
        removals += 1;
    }
    assert!((8..=11).contains(&removals), "{removals} in four hours");
}

#[test]
fn finalizer_that_comes_back_after_hours_is_another_story() {
    let known = removed_from(5);
    let Handover::Returned { returns, .. } = returned(&known, now() + 2.hours()) else {
        panic!("it came back");
    };
    assert_eq!(returns, 1);
}

#[test]
fn finalizer_that_kubernetes_keeps_is_tried_ever_less_often_and_is_no_sign_of_the_peer() {
    let there = seen("100", true);
    let mut known = after_refusal(None, &there, now(), 0.0);
    assert_eq!(
        claim(Some(&known), &there, now()),
        Claim::Inherited {
            not_before: Some(now() + 5.minutes())
        }
    );
    assert_eq!(
        claim(Some(&known), &there, now() + 5.minutes()),
        Claim::Inherited { not_before: None }
    );
    for _try in 0..40 {
        known = after_refusal(Some(&known), &there, now(), 0.0);
    }
    assert_eq!(
        claim(Some(&known), &there, now()),
        Claim::Inherited {
            not_before: Some(now() + 30.minutes())
        }
    );
    assert_eq!(observe(Some(known), &seen("101", false), now(), 0.0), None);
}

proptest! {
    /// Whatever happens to the finalizer, and whenever it is looked at: removals within an hour can be counted on the
    /// fingers as long as nobody wants anything.
    #[test]
    fn finalizer_is_never_fought_over(
        looks in prop::collection::vec((1_i64..120, any::<bool>(), 0.0..1.0_f64), 60..200)
    ) {
        let (mut time, mut version, mut known, mut removals) = (now(), 100, None, 0);
        let mut is_there = true;
        for (wait, peer_is_awake, draw) in looks {
            if elapsed(now(), time) > Duration::from_secs(60 * 60) {
                break;
            }
            if peer_is_awake && !is_there {
                is_there = true;
                version += 1;
            }
            let binding = seen(&version.to_string(), is_there);
            known = observe(known, &binding, time, draw);
            let due = matches!(
                claim(known.as_ref(), &binding, time),
                Claim::Inherited { not_before: None } | Claim::Contested { until: None }
            );
            if due {
                prop_assert!(is_there, "nothing is there to be removed");
                known = Some(after_removal(known.as_ref(), version.to_string(), time, draw));
                is_there = false;
                version += 1;
                removals += 1;
            }
            time += SignedDuration::from_secs(wait);
        }
        prop_assert!(removals <= 6, "{} removals", removals);
    }
}
