//! What makes a question that is open the wrong one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

type Change = fn(&mut Binding);

/// A question for a binding that has no Secret yet, which was asked to refresh, and the binding.
fn open(force: bool) -> (Issue, Arc<Binding>) {
    let mut snapshot = settled();
    snapshot.secret = SecretState::Absent;
    request_refresh(&mut snapshot, "monday");
    let issue = Issue {
        force,
        ..issue(&plan(&snapshot, now())).clone()
    };
    (issue, snapshot.binding)
}

fn is_outdated_by(issue: &Issue, asked_for: &Binding, change: Change) -> bool {
    let mut present = asked_for.clone();
    change(&mut present);
    issue.is_outdated(asked_for, Some(&present), Some(&annotated_account("puller")))
}

#[test]
fn question_is_outdated_by_what_its_answer_depends_on() {
    let changes: [Change; 8] = [
        |binding| binding.metadata.uid = Some("of-the-next".to_owned()),
        |binding| binding.metadata.deletion_timestamp = Some(Time(now())),
        |binding| binding.metadata.finalizers = Some(vec![finalizer::PEERS.to_owned()]),
        |binding| binding.spec.acr.server = "other.azurecr.io".to_owned(),
        |binding| binding.spec.acr.scope = "repository:team/other:pull".to_owned(),
        |binding| binding.spec.acr.server = "not a host".to_owned(),
        |binding| binding.spec.service_account_name = "other".to_owned(),
        |binding| binding.spec.auth = managed_identity_spec().auth,
    ];
    for force in [false, true] {
        let (issue, asked_for) = open(force);
        for (number, change) in changes.into_iter().enumerate() {
            assert!(is_outdated_by(&issue, &asked_for, change), "{number}");
        }
        assert!(issue.is_outdated(&asked_for, None, Some(&annotated_account("puller"))));
    }
}

#[test]
fn question_is_not_outdated_by_what_its_answer_does_not_depend_on() {
    let changes: [Change; 5] = [
        |_binding| {},
        |binding| binding.metadata.resource_version = Some("101".to_owned()),
        |binding| binding.metadata.generation = Some(4),
        |binding| {
            binding
                .annotations_mut()
                .insert("team".to_owned(), "web".to_owned());
        },
        // Withdrawn: the answer is none too many.
        |binding| {
            binding.annotations_mut().remove(REFRESH_REQUESTED);
        },
    ];
    let (issue, asked_for) = open(false);
    for (number, change) in changes.into_iter().enumerate() {
        assert!(!is_outdated_by(&issue, &asked_for, change), "{number}");
    }
    let mut released = Binding::clone(&asked_for);
    released.metadata.finalizers = Some(vec![finalizer::PEERS.to_owned()]);
    assert!(
        !is_outdated_by(&issue, &released, |binding| binding.metadata.finalizers = None),
        "that is what the pass itself did"
    );
}

#[test]
fn question_is_outdated_by_another_identity_of_its_account() {
    let (issue, asked_for) = open(false);
    let is_outdated =
        |account: Option<&ServiceAccount>| issue.is_outdated(&asked_for, Some(&asked_for), account);
    let mut other = annotated_account("puller");
    let client = "33333333-3333-3333-3333-000000000002".to_owned();
    other
        .annotations_mut()
        .insert(wanted::CLIENT_ID_ANNOTATION.to_owned(), client);
    assert!(!is_outdated(Some(&annotated_account("puller"))));
    assert!(is_outdated(Some(&other)));
    assert!(is_outdated(Some(&account("puller"))), "it names none any more");
    assert!(is_outdated(None));
}

#[test]
fn question_by_force_is_answered_however_fast_requests_follow_each_other() {
    let next: Change = |binding| {
        let tuesday = "tuesday".to_owned();
        binding
            .annotations_mut()
            .insert(REFRESH_REQUESTED.to_owned(), tuesday);
    };
    for (force, is_outdated) in [(false, true), (true, false)] {
        let (issue, asked_for) = open(force);
        assert_eq!(is_outdated_by(&issue, &asked_for, next), is_outdated);
    }
}
