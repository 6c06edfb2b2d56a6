//! Several ServiceAccounts, and what somebody keeps undoing.

use super::*;

fn message(status: &AcrPullBindingStatus, kind: &str) -> String {
    condition(&status.conditions, kind).unwrap().message.clone()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn status_tells_a_few_of_the_accounts_that_are_missing() {
    let held = credential();
    let seen = |link| {
        status(&Observation {
            credential: Some(&held),
            accounts: &["web", "a", "b", "c", "d"],
            link,
            ..nothing()
        })
    };
    let linked = seen(&Link::Present);
    assert_eq!(verdict(&linked, "Ready"), ("True", "CredentialCurrent"));
    assert_eq!(
        message(&linked, "ServiceAccountLinked"),
        "ServiceAccounts web, a, b and 2 more list acr-pull-web"
    );
    let missing = seen(&Link::NoAccount(names(&["a", "b", "c", "d"])));
    assert_eq!(
        verdict(&missing, "ServiceAccountLinked"),
        ("False", "ServiceAccountNotFound")
    );
    assert_eq!(
        message(&missing, "ServiceAccountLinked"),
        "ServiceAccounts a, b, c and 1 more do not exist"
    );
}

#[test]
fn status_link_that_is_fought_over_is_told_once() {
    let held = credential();
    let contested = Link::Contested(names(&["web"]));
    let seen = Observation {
        credential: Some(&held),
        link: &contested,
        ..nothing()
    };
    let before = status(&Observation {
        link: &Link::Present,
        ..seen
    });
    let first = next(&before, &seen);
    assert_eq!(verdict(&first, "Ready"), ("False", "Contested"));
    assert_eq!(verdict(&first, "CredentialIssued"), ("True", "Issued"));
    let told = notices::told(&before, &first);
    assert!(
        matches!(told.as_slice(), [notice] if notice.warning && notice.reason == "Contested"),
        "{told:?}"
    );
    let second = next(
        &first,
        &Observation {
            now: now() + 5.minutes(),
            ..seen
        },
    );
    assert!(!is_due(&first, &second, Some(now()), now() + 5.minutes()));
    assert_eq!(notices::told(&first, &second), []);
}

#[test]
fn status_secret_that_is_fought_over_is_told_once_and_not_at_every_round() {
    let (held, problem) = (credential(), Problem::new(Reason::Contested, "fought over"));
    let taken = Observation {
        problem: Some(&problem),
        ..nothing()
    };
    let restored = Observation {
        credential: Some(&held),
        ..taken
    };
    let before = status(&Observation {
        problem: None,
        ..restored
    });
    let mut status = next(&before, &taken);
    for kind in ["Ready", "CredentialIssued", "SecretSynced"] {
        assert_eq!(verdict(&status, kind), ("False", "Contested"), "{kind}");
    }
    let told = notices::told(&before, &status);
    assert!(
        matches!(told.as_slice(), [notice] if notice.warning && notice.reason == "Contested"),
        "{told:?}"
    );
    for seen in [&restored, &taken, &restored] {
        let after = next(&status, seen);
        assert_eq!(verdict(&after, "Ready"), ("False", "Contested"));
        assert_eq!(verdict(&after, "RefreshDegraded"), ("False", "RefreshHealthy"));
        assert_eq!(
            after.conditions, status.conditions,
            "no condition follows the rounds"
        );
        assert_eq!(notices::told(&status, &after), []);
        status = after;
    }
}

#[test]
fn status_secret_and_link_that_are_fought_over_at_once_are_both_told() {
    let (held, problem) = (credential(), Problem::new(Reason::Contested, "fought over"));
    let contested = Link::Contested(names(&["web"]));
    let seen = Observation {
        credential: Some(&held),
        link: &contested,
        ..nothing()
    };
    let of_the_link = status(&seen);
    let of_both = next(
        &of_the_link,
        &Observation {
            problem: Some(&problem),
            ..seen
        },
    );
    let told = notices::told(&of_the_link, &of_both);
    assert!(
        matches!(told.as_slice(), [notice] if notice.note == "fought over"),
        "{told:?}"
    );
    let told = notices::told(&AcrPullBindingStatus::default(), &of_both);
    let warnings = told.iter().filter(|notice| notice.warning);
    let actions: Vec<_> = warnings.map(|notice| notice.action).collect();
    assert_eq!(actions, ["Issue", "Link"]);
}

#[test]
fn status_of_a_link_that_is_withheld_does_not_say_that_there_is_none() {
    // It may have been made before a write showed whose the Secret is.
    let withheld = status(&Observation {
        link: &Link::Withheld,
        ..nothing()
    });
    assert_eq!(
        message(&withheld, "ServiceAccountLinked"),
        "Secret acr-pull-web belongs to somebody else: no link to it is made"
    );
}
