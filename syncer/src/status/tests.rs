use k8s_openapi::jiff::ToSpan as _;
use proto::{Fingerprint, Reason};

use super::*;
use crate::samples::now;

mod combinations;
mod contested;
mod failures;
mod notices;
mod peers;
mod shortfall;

fn credential() -> Credential {
    Credential {
        inputs: "wanted".to_owned(),
        fingerprint: Fingerprint::of(b"payload"),
        refreshed_at: now() - 10.minutes(),
        expires_at: now() + 60.minutes(),
        refresh_at: now() + 30.minutes(),
    }
}

fn nothing() -> Observation<'static> {
    Observation {
        generation: Some(3),
        secret_name: "acr-pull-web",
        link: &Link::Present,
        accounts: &["web"],
        inputs: Some("wanted"),
        credential: None,
        peers: None,
        problem: None,
        attempts: 0,
        degraded: false,
        asked_scope: "repository:a:pull",
        granted_scope: None,
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
        now: now(),
    }
}

fn status(seen: &Observation<'_>) -> AcrPullBindingStatus {
    next(&AcrPullBindingStatus::default(), seen)
}

fn verdict<'a>(status: &'a AcrPullBindingStatus, kind: &str) -> (&'a str, &'a str) {
    let condition = condition(&status.conditions, kind).unwrap();
    (&condition.status, &condition.reason)
}

fn refused() -> Problem {
    Problem::new(
        Reason::RegistryUnauthorized,
        "the identity has no role on the registry",
    )
}

#[test]
fn status_ready_when_issued_synced_and_linked() {
    let held = credential();
    let status = status(&Observation {
        credential: Some(&held),
        granted_scope: Some("repository:a:pull"),
        ..nothing()
    });
    assert_eq!(verdict(&status, "Ready"), ("True", "CredentialCurrent"));
    assert_eq!(verdict(&status, "RefreshDegraded"), ("False", "RefreshHealthy"));
    assert_eq!(status.token_expiration_time, Some(Time(now() + 60.minutes())));
    assert_eq!(status.next_refresh_time, Some(Time(now() + 30.minutes())));
    assert_eq!(status.granted_scope.as_deref(), Some("repository:a:pull"));
    assert_eq!(status.error, None);
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(3))
    );
}

#[test]
fn status_ready_stays_true_while_the_token_is_valid() {
    let (held, problem) = (credential(), refused());
    let seen = Observation {
        credential: Some(&held),
        problem: Some(&problem),
        attempts: 2,
        ..nothing()
    };
    let valid = status(&seen);
    assert_eq!(verdict(&valid, "Ready"), ("True", "CredentialCurrent"));
    assert_eq!(verdict(&valid, "RefreshDegraded"), ("True", "RefreshFailing"));
    assert_eq!(
        valid.error.as_deref(),
        Some("the identity has no role on the registry")
    );
    let expired = status(&Observation {
        now: now() + 61.minutes(),
        ..seen
    });
    assert_eq!(verdict(&expired, "Ready"), ("False", "RegistryUnauthorized"));
    assert_eq!(verdict(&expired, "RefreshDegraded"), ("False", "RefreshHealthy"));
}

#[test]
fn status_broker_that_renews_nothing_is_told() {
    let held = credential();
    let status = status(&Observation {
        credential: Some(&held),
        degraded: true,
        ..nothing()
    });
    assert_eq!(verdict(&status, "Ready"), ("True", "CredentialCurrent"));
    assert_eq!(verdict(&status, "RefreshDegraded"), ("True", "RefreshFailing"));
}

#[test]
fn status_token_for_another_spec_does_not_count() {
    let (held, problem) = (credential(), refused());
    let seen = Observation {
        credential: Some(&held),
        inputs: Some("changed"),
        problem: Some(&problem),
        ..nothing()
    };
    let status = status(&seen);
    assert_eq!(verdict(&status, "Ready"), ("False", "RegistryUnauthorized"));
    assert_eq!(
        status.token_expiration_time,
        Some(Time(now() + 60.minutes())),
        "what the Secret holds is still told"
    );
    assert_eq!(status.next_refresh_time, None);
}

#[test]
fn status_link_that_is_missing_makes_unready_and_not_unissued() {
    let held = credential();
    let status = status(&Observation {
        credential: Some(&held),
        link: &Link::NoAccount(vec!["web".to_owned()]),
        ..nothing()
    });
    assert_eq!(verdict(&status, "Ready"), ("False", "ServiceAccountNotFound"));
    assert_eq!(verdict(&status, "CredentialIssued"), ("True", "Issued"));
    assert_eq!(
        verdict(&status, "ServiceAccountLinked"),
        ("False", "ServiceAccountNotFound")
    );
    assert_eq!(
        status.error.as_deref(),
        Some("ServiceAccount web does not exist"),
        "the peer's field says it as well"
    );
}

#[test]
fn status_secret_that_cannot_be_written_is_told_there() {
    let problem = Problem::new(Reason::QuotaExceeded, "used up").of_the_secret();
    let status = status(&Observation {
        problem: Some(&problem),
        ..nothing()
    });
    for kind in ["Ready", "CredentialIssued", "SecretSynced"] {
        assert_eq!(verdict(&status, kind), ("False", "QuotaExceeded"), "{kind}");
    }
    assert_eq!(verdict(&status, "ServiceAccountLinked"), ("True", "Linked"));
}

#[test]
fn status_token_that_kubernetes_denies_says_nothing_of_the_secret() {
    let problem = Problem::new(Reason::KubernetesDenied, "cannot request a token");
    let status = status(&Observation {
        problem: Some(&problem),
        ..nothing()
    });
    assert_eq!(
        verdict(&status, "CredentialIssued"),
        ("False", "KubernetesDenied")
    );
    assert_eq!(verdict(&status, "SecretSynced"), ("Unknown", "Pending"));
}

#[test]
fn status_foreign_secret_is_a_conflict_everywhere() {
    let problem = Problem::new(Reason::SecretConflict, "taken");
    let status = status(&Observation {
        link: &Link::Withheld,
        problem: Some(&problem),
        inputs: None,
        ..nothing()
    });
    for kind in [
        "Ready",
        "CredentialIssued",
        "SecretSynced",
        "ServiceAccountLinked",
    ] {
        assert_eq!(verdict(&status, kind), ("False", "SecretConflict"), "{kind}");
    }
}

#[test]
fn status_transition_time_moves_only_with_the_condition() {
    let problem = refused();
    let first = status(&Observation {
        problem: Some(&problem),
        ..nothing()
    });
    let other = Problem::new(Reason::PolicyDenied, "no grant allows this");
    let second = next(
        &first,
        &Observation {
            problem: Some(&other),
            now: now() + 1.minute(),
            ..nothing()
        },
    );
    let ready = |status: &AcrPullBindingStatus| condition(&status.conditions, "Ready").unwrap().clone();
    assert_eq!(
        ready(&second).last_transition_time,
        ready(&first).last_transition_time
    );
    assert_eq!(ready(&second).reason, "PolicyDenied");
}

#[test]
fn status_conditions_of_others_stay() {
    let theirs = Condition {
        type_: "example.com/Scanned".to_owned(),
        ..status(&nothing()).conditions[0].clone()
    };
    let before = AcrPullBindingStatus {
        conditions: vec![theirs.clone()],
        ..AcrPullBindingStatus::default()
    };
    assert!(next(&before, &nothing()).conditions.contains(&theirs));
}

#[test]
fn status_patch_says_only_what_changed_and_clears_the_peers_error() {
    let held = credential();
    let before = AcrPullBindingStatus {
        error: Some("left by the peer".to_owned()),
        token_expiration_time: Some(Time(now() + 60.minutes())),
        ..AcrPullBindingStatus::default()
    };
    let after = next(
        &before,
        &Observation {
            credential: Some(&held),
            ..nothing()
        },
    );
    let patch = merge_patch(&before, &after).unwrap();
    assert_eq!(patch["status"]["error"], Value::Null);
    assert!(patch["status"].as_object().unwrap().contains_key("error"));
    assert!(
        !patch["status"]
            .as_object()
            .unwrap()
            .contains_key("tokenExpirationTime")
    );
    assert_eq!(patch["status"]["conditions"].as_array().unwrap().len(), 5);
}

#[test]
fn status_token_for_a_whole_registry_grants_no_scope() {
    let held = credential();
    let scoped = status(&Observation {
        credential: Some(&held),
        granted_scope: Some("repository:a:pull"),
        ..nothing()
    });
    let seen = Observation {
        credential: Some(&held),
        granted_scope: Some(""),
        ..nothing()
    };
    assert_eq!(next(&scoped, &seen).granted_scope, None);
}
