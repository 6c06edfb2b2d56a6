//! The events that a change of the status is worth.

use super::*;

#[test]
fn notices_tell_success_once() {
    let held = credential();
    let ready = status(&Observation {
        credential: Some(&held),
        ..nothing()
    });
    let reasons: Vec<_> = notices(&AcrPullBindingStatus::default(), &ready)
        .into_iter()
        .map(|one| one.reason)
        .collect();
    assert_eq!(reasons, ["ServiceAccountLinked", "CredentialIssued"]);
    let refreshed = Credential {
        refreshed_at: now(),
        ..held
    };
    let later = next(
        &ready,
        &Observation {
            credential: Some(&refreshed),
            ..nothing()
        },
    );
    assert_ne!(later, ready);
    assert_eq!(notices(&ready, &later), []);
}

#[test]
fn notices_tell_a_failure_once() {
    let problem = refused();
    let failed = status(&Observation {
        problem: Some(&problem),
        ..nothing()
    });
    let told = notices(&AcrPullBindingStatus::default(), &failed);
    assert!(
        told.iter()
            .any(|one| one.warning && one.reason == "RegistryUnauthorized"),
        "{told:?}"
    );
    let again = next(
        &failed,
        &Observation {
            problem: Some(&problem),
            now: now() + 1.minute(),
            ..nothing()
        },
    );
    assert_eq!(notices(&failed, &again), []);
}

#[test]
fn notices_tell_a_missing_account_and_one_reason_once() {
    let held = credential();
    let unlinked = status(&Observation {
        credential: Some(&held),
        link: &Link::NoAccount(vec!["web".to_owned()]),
        ..nothing()
    });
    let told = notices(&AcrPullBindingStatus::default(), &unlinked);
    assert!(
        told.iter()
            .any(|one| one.warning && one.reason == "ServiceAccountNotFound"),
        "{told:?}"
    );
    let taken = Problem::new(Reason::SecretConflict, "taken");
    let conflict = status(&Observation {
        problem: Some(&taken),
        link: &Link::Withheld,
        ..nothing()
    });
    assert_eq!(notices(&AcrPullBindingStatus::default(), &conflict).len(), 1);
}
