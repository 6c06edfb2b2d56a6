//! The events that a change of the status is worth.

use super::*;

const NAMES: Names<'static> = Names {
    secret: "acr-pull-web",
    account: "web",
};

pub(super) fn told(before: &AcrPullBindingStatus, after: &AcrPullBindingStatus) -> Vec<Notice> {
    notices(before, after, &NAMES)
}

fn reasons(before: &AcrPullBindingStatus, after: &AcrPullBindingStatus) -> Vec<String> {
    told(before, after).into_iter().map(|one| one.reason).collect()
}

fn untold() -> AcrPullBindingStatus {
    AcrPullBindingStatus::default()
}

fn ready() -> AcrPullBindingStatus {
    status(&Observation {
        credential: Some(&credential()),
        ..nothing()
    })
}

#[test]
fn notices_tell_a_birth_with_one_event() {
    let born = told(&untold(), &ready());
    let [birth] = &born[..] else {
        panic!("{born:?}");
    };
    assert_eq!(
        (birth.reason.as_str(), birth.warning),
        ("CredentialIssued", false)
    );
    assert!(
        birth.note.contains("ServiceAccount web lists acr-pull-web"),
        "{birth:?}"
    );
    assert_eq!(birth.related, Some(Related::Secret("acr-pull-web".to_owned())));
}

#[test]
fn notices_tell_link_and_credential_that_come_apart_one_by_one() {
    let linked = status(&nothing());
    assert_eq!(reasons(&untold(), &linked), ["ServiceAccountLinked"]);
    assert_eq!(
        told(&untold(), &linked)[0].related,
        Some(Related::ServiceAccount("web".to_owned()))
    );
    assert_eq!(reasons(&linked, &ready()), ["CredentialIssued"]);
}

#[test]
fn notices_say_nothing_of_a_refresh() {
    let refreshed = Credential {
        refreshed_at: now(),
        expires_at: now() + 70.minutes(),
        ..credential()
    };
    let later = next(
        &ready(),
        &Observation {
            credential: Some(&refreshed),
            ..nothing()
        },
    );
    assert_ne!(later, ready());
    assert_eq!(told(&ready(), &later), []);
}

#[test]
fn notices_say_nothing_at_the_first_look_after_a_restart() {
    let held = credential();
    let (missing, problem) = (Link::NoAccount(vec!["web".to_owned()]), refused());
    for seen in [
        Observation {
            credential: Some(&held),
            ..nothing()
        },
        Observation {
            credential: Some(&held),
            link: &missing,
            ..nothing()
        },
        Observation {
            credential: Some(&held),
            problem: Some(&problem),
            ..nothing()
        },
        Observation {
            problem: Some(&problem),
            link: &missing,
            ..nothing()
        },
    ] {
        let before = status(&seen);
        let after = next(
            &before,
            &Observation {
                now: now() + 1.minute(),
                attempts: 1,
                ..seen.clone()
            },
        );
        assert_eq!(told(&before, &after), [], "{seen:?}");
        // The same where a CRD of the peer has kept three fields.
        let kept = AcrPullBindingStatus {
            last_token_refresh_time: before.last_token_refresh_time.clone(),
            token_expiration_time: before.token_expiration_time.clone(),
            error: before.error.clone(),
            ..AcrPullBindingStatus::default()
        };
        let after = next(&kept, &seen);
        let told = told(&kept, &after);
        // But for the second of two failures, of which such a status keeps one.
        assert!(
            told.iter().all(|one| one.reason == "ServiceAccountNotFound" && before.error.as_ref() != Some(&one.note)),
            "{seen:?}: {told:?}"
        );
    }
}

#[test]
fn notices_tell_a_failure_once() {
    let problem = refused();
    let failed = status(&Observation {
        problem: Some(&problem),
        ..nothing()
    });
    let first = told(&untold(), &failed);
    assert!(
        first
            .iter()
            .any(|one| one.warning && one.reason == "RegistryUnauthorized"),
        "{first:?}"
    );
    let again = next(
        &failed,
        &Observation {
            problem: Some(&problem),
            now: now() + 1.minute(),
            ..nothing()
        },
    );
    assert_eq!(told(&failed, &again), []);
}

#[test]
fn notices_tell_the_first_credential_after_a_refusal_as_issued() {
    let problem = refused();
    let failed = status(&Observation {
        problem: Some(&problem),
        ..nothing()
    });
    assert_eq!(reasons(&failed, &ready()), ["CredentialIssued"]);
}

#[test]
fn notices_tell_a_renewal_that_fails_and_its_recovery() {
    let (held, problem) = (credential(), refused());
    let degraded = next(
        &ready(),
        &Observation {
            credential: Some(&held),
            problem: Some(&problem),
            ..nothing()
        },
    );
    assert_eq!(reasons(&ready(), &degraded), ["RegistryUnauthorized"]);
    let recovered = next(
        &degraded,
        &Observation {
            credential: Some(&held),
            ..nothing()
        },
    );
    assert_eq!(reasons(&degraded, &recovered), ["CredentialRecovered"]);
    // Again is another failure, though it looks the same.
    let again = next(
        &recovered,
        &Observation {
            credential: Some(&held),
            problem: Some(&problem),
            now: now() + 1.minute(),
            ..nothing()
        },
    );
    assert_eq!(reasons(&recovered, &again), ["RegistryUnauthorized"]);
}

#[test]
fn notices_tell_an_expiry_once_and_what_ends_it() {
    let (held, problem) = (credential(), refused());
    let degraded = status(&Observation {
        credential: Some(&held),
        problem: Some(&problem),
        ..nothing()
    });
    let over = Observation {
        credential: Some(&held),
        problem: Some(&problem),
        now: now() + 61.minutes(),
        ..nothing()
    };
    let expired = next(&degraded, &over);
    assert_eq!(reasons(&degraded, &expired), ["CredentialExpired"]);
    let later = next(
        &expired,
        &Observation {
            now: now() + 90.minutes(),
            ..over
        },
    );
    assert_eq!(told(&expired, &later), []);
    let fresh = Credential {
        expires_at: now() + 180.minutes(),
        ..credential()
    };
    let recovered = next(
        &later,
        &Observation {
            credential: Some(&fresh),
            now: now() + 91.minutes(),
            ..nothing()
        },
    );
    assert_eq!(reasons(&later, &recovered), ["CredentialRecovered"]);
}

#[test]
fn notices_tell_a_missing_account_and_one_reason_once() {
    let held = credential();
    let unlinked = status(&Observation {
        credential: Some(&held),
        link: &Link::NoAccount(vec!["web".to_owned()]),
        ..nothing()
    });
    let first = told(&untold(), &unlinked);
    let missing = first.iter().find(|one| one.warning).unwrap();
    assert_eq!(missing.reason, "ServiceAccountNotFound");
    assert_eq!(missing.related, Some(Related::ServiceAccount("web".to_owned())));
    assert_eq!(first.iter().filter(|one| one.warning).count(), 1);

    let taken = Problem::new(Reason::SecretConflict, "taken");
    let conflict = status(&Observation {
        problem: Some(&taken),
        link: &Link::Withheld,
        ..nothing()
    });
    let first = told(&untold(), &conflict);
    let [one] = &first[..] else {
        panic!("{first:?}");
    };
    assert_eq!(one.reason, "SecretConflict");
    assert_eq!(one.related, Some(Related::Secret("acr-pull-web".to_owned())));
}

#[test]
fn notices_of_a_link_that_fails_as_before_are_not_told_again_when_the_credential_recovers() {
    let (held, problem) = (credential(), refused());
    let both = status(&Observation {
        problem: Some(&problem),
        link: &Link::NoAccount(vec!["web".to_owned()]),
        ..nothing()
    });
    assert_eq!(
        reasons(&untold(), &both),
        ["RegistryUnauthorized", "ServiceAccountNotFound"]
    );
    let one = next(
        &both,
        &Observation {
            credential: Some(&held),
            link: &Link::NoAccount(vec!["web".to_owned()]),
            ..nothing()
        },
    );
    assert_eq!(
        one.last_failure.as_ref().unwrap().reason,
        "ServiceAccountNotFound"
    );
    assert_eq!(reasons(&both, &one), ["CredentialIssued"]);
}

#[test]
fn reminder_tells_a_failure_that_goes_on_once_an_hour() {
    let problem = refused();
    let failed = status(&Observation {
        problem: Some(&problem),
        ..nothing()
    });
    let mut reminder = Reminder::default();
    let mut told_at = Vec::new();
    for minute in 0..200_i64 {
        let mut notices = match minute {
            0 => told(&untold(), &failed),
            _ => Vec::new(),
        };
        reminder.remind(&failed, &NAMES, &mut notices, now() + minute.minutes());
        if notices.iter().any(|one| one.reason == "RegistryUnauthorized") {
            told_at.push(minute);
        }
    }
    assert_eq!(told_at, [0, 60, 120, 180]);
}

#[test]
fn reminder_of_a_new_process_waits_and_ends_with_the_failure() {
    let problem = refused();
    let failed = status(&Observation {
        problem: Some(&problem),
        ..nothing()
    });
    let mut reminder = Reminder::default();
    let mut remind = |after: &AcrPullBindingStatus, minute: i64| {
        let mut notices = Vec::new();
        reminder.remind(after, &NAMES, &mut notices, now() + minute.minutes());
        notices.len()
    };
    assert_eq!(remind(&failed, 0), 0);
    assert_eq!(remind(&failed, 59), 0);
    assert_eq!(remind(&failed, 60), 1);
    assert_eq!(remind(&ready(), 61), 0);
    assert_eq!(remind(&failed, 150), 0, "whoever saw it begin has told it");
}
