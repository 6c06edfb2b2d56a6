//! Every combination of what can stand in the way, what the Secret holds, and how the link stands.

use super::*;
use crate::problem::Stage;

/// What the Secret holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    Valid,
    Expired,
    ForAnotherSpec,
    /// Of a spec that does not parse.
    ForNobodyKnows,
}

fn credentials() -> [(Held, Option<Credential>, Option<&'static str>); 5] {
    let held = credential();
    let expired = Credential {
        expires_at: now() - 1.second(),
        ..held.clone()
    };
    [
        (Held::Nothing, None, Some("wanted")),
        (Held::Valid, Some(held.clone()), Some("wanted")),
        (Held::Expired, Some(expired), Some("wanted")),
        (Held::ForAnotherSpec, Some(held.clone()), Some("another")),
        (Held::ForNobodyKnows, Some(held), None),
    ]
}

fn problems() -> Vec<Option<Problem>> {
    let all = Reason::ALL.iter().flat_map(|reason| {
        [
            Problem::new(*reason, reason.title()),
            Problem::new(*reason, reason.title()).of_the_secret(),
        ]
    });
    std::iter::once(None).chain(all.map(Some)).collect()
}

fn links() -> Vec<Link> {
    let failed = Reason::ALL
        .iter()
        .map(|reason| Link::Failed(Problem::new(*reason, reason.title())));
    let others = [
        Link::Present,
        Link::Missing,
        Link::NoAccount(vec!["web".to_owned()]),
        Link::Contested(vec!["web".to_owned()]),
        Link::Withheld,
    ];
    others.into_iter().chain(failed).collect()
}

/// The reasons of a condition that is as it should be, or not known yet; all others are of the catalogue.
const OWN_REASONS: [&str; 7] = [
    "CredentialCurrent",
    "Issued",
    "Applied",
    "Linked",
    "RefreshFailing",
    "RefreshHealthy",
    "Pending",
];

fn each_combination(mut check: impl FnMut(&Observation<'_>, Held, &AcrPullBindingStatus)) {
    for (held, credential, inputs) in credentials() {
        for problem in problems() {
            for link in links() {
                let seen = Observation {
                    credential: credential.as_ref(),
                    inputs,
                    problem: problem.as_ref(),
                    link: &link,
                    ..nothing()
                };
                check(&seen, held, &status(&seen));
            }
        }
    }
}

fn is(status: &AcrPullBindingStatus, kind: &str, value: &str) -> bool {
    condition(&status.conditions, kind).is_some_and(|one| one.status == value)
}

#[test]
fn b30_conditions_of_every_combination_agree() {
    each_combination(|seen, held, status| {
        let parts = ["CredentialIssued", "SecretSynced", "ServiceAccountLinked"];
        let all_true = parts.iter().all(|part| is(status, part, "True"));
        assert_eq!(is(status, "Ready", "True"), all_true, "{seen:?}");
        let any_false = parts.iter().any(|part| is(status, part, "False"));
        assert_eq!(is(status, "Ready", "False"), any_false, "{seen:?}");

        // Tools that know nothing of this kind: one of the two, and only while it is not ready.
        let [reconciling, stalled] =
            ["Reconciling", "Stalled"].map(|kind| condition(&status.conditions, kind).is_some());
        assert!(!(reconciling && stalled), "{seen:?}");
        assert_eq!(reconciling || stalled, !is(status, "Ready", "True"), "{seen:?}");
        for kind in ["Reconciling", "Stalled"] {
            assert!(
                !is(status, kind, "False") && !is(status, kind, "Unknown"),
                "{seen:?}"
            );
        }

        // A valid token is one that serves, whatever stands in the way of the next, unless somebody keeps taking it away;
        // and the link is another matter.
        let serves = held == Held::Valid && !seen.is_fought_over();
        assert_eq!(is(status, "CredentialIssued", "True"), serves, "{seen:?}");
        if serves {
            assert!(is(status, "SecretSynced", "True"), "{seen:?}");
            assert_eq!(
                is(status, "RefreshDegraded", "True"),
                seen.problem.is_some(),
                "{seen:?}"
            );
        }
        assert_eq!(
            is(status, "ServiceAccountLinked", "True"),
            *seen.link == Link::Present,
            "{seen:?}"
        );
        let of_the_secret = seen.problem.is_some_and(|problem| problem.stage == Stage::Secret);
        if is(status, "SecretSynced", "False") {
            assert!(of_the_secret, "{seen:?}");
        }
        if let Some(problem) = seen.problem {
            assert!(is_failing(status) && status.last_failure.is_some(), "{seen:?}");
            // Of two controllers the other one would drop all that is said.
            let is_duplicate = problem.reason == Reason::DuplicateController;
            assert_eq!(status.error.is_none(), is_duplicate, "{seen:?}");
        }
    });
}

#[test]
fn b30_conditions_of_every_combination_are_well_formed() {
    each_combination(|seen, _held, status| {
        assert_eq!(status.observed_generation, seen.generation);
        let mut kinds = Vec::new();
        for one in &status.conditions {
            assert_eq!(one.observed_generation, seen.generation, "{one:?}");
            let is_known = OWN_REASONS.contains(&one.reason.as_str())
                || Reason::ALL.iter().any(|reason| reason.as_str() == one.reason);
            assert!(is_known, "{one:?}");
            assert!(
                one.reason.starts_with(|first: char| first.is_ascii_uppercase()),
                "{one:?}"
            );
            assert!(
                one.reason.chars().all(|one| one.is_ascii_alphanumeric()),
                "{one:?}"
            );
            // No count, no time, no id.
            assert!(!one.message.contains(|one: char| one.is_ascii_digit()), "{one:?}");
            assert!(!kinds.contains(&&one.type_), "{one:?}");
            kinds.push(&one.type_);
        }
        let later = Observation {
            now: now() + 3.minutes(),
            attempts: 7,
            trace_id: Some("another"),
            ..seen.clone()
        };
        if matches!(seen.credential, Some(held) if held.expires_at < later.now)
            == matches!(seen.credential, Some(held) if held.expires_at < seen.now)
        {
            let mut again = next(status, &later);
            again.consecutive_failures = None;
            assert_eq!(again, *status, "a failure that goes on changes nothing: {seen:?}");
        }
    });
}

#[test]
fn status_is_stalled_only_by_what_somebody_must_change() {
    for (reason, kind) in [
        (Reason::InvalidSpec, "Stalled"),
        (Reason::InvalidRequest, "Stalled"),
        (Reason::TenantNotFound, "Stalled"),
        (Reason::IdentityAnnotationMissing, "Stalled"),
        (Reason::SecretConflict, "Stalled"),
        // The repairs go on.
        (Reason::Contested, "Reconciling"),
        // A grant comes late.
        (Reason::PolicyDenied, "Reconciling"),
        (Reason::RegistryNotAllowed, "Reconciling"),
        (Reason::RegistryUnauthorized, "Reconciling"),
        (Reason::FederationRejected, "Reconciling"),
        (Reason::ServiceAccountNotFound, "Reconciling"),
        (Reason::QuotaExceeded, "Reconciling"),
        (Reason::BrokerUnreachable, "Reconciling"),
        // Of the syncer's own token, and so of all bindings.
        (Reason::CallerUnauthenticated, "Reconciling"),
    ] {
        let problem = Problem::new(reason, reason.title());
        let status = status(&Observation {
            problem: Some(&problem),
            ..nothing()
        });
        assert_eq!(verdict(&status, kind), ("True", reason.as_str()));
        let message = &condition(&status.conditions, kind).unwrap().message;
        assert_eq!(message, reason.title(), "it says why by itself");
    }
}

#[test]
fn status_stalled_link_is_not_hidden_by_a_credential_that_will_come() {
    let problem = Problem::new(Reason::RegistryUnreachable, "no answer");
    let link = Link::Failed(Problem::new(Reason::InvalidSpec, "no such name"));
    let status = status(&Observation {
        problem: Some(&problem),
        link: &link,
        ..nothing()
    });
    assert_eq!(verdict(&status, "Ready"), ("False", "RegistryUnreachable"));
    assert_eq!(verdict(&status, "Stalled"), ("True", "InvalidSpec"));
}

#[test]
fn status_refresh_in_the_background_is_no_news_for_tools() {
    let held = credential();
    let ready = status(&Observation {
        credential: Some(&held),
        ..nothing()
    });
    for reason in [Reason::RegistryUnreachable, Reason::TenantNotFound] {
        let problem = Problem::new(reason, reason.title());
        let renewing = next(
            &ready,
            &Observation {
                credential: Some(&held),
                problem: Some(&problem),
                ..nothing()
            },
        );
        let seen_by_tools = |status: &AcrPullBindingStatus| {
            let mut conditions = status.conditions.clone();
            conditions.retain(|one| one.type_ != "RefreshDegraded");
            conditions
        };
        assert_eq!(seen_by_tools(&renewing), seen_by_tools(&ready));
        assert_eq!(verdict(&renewing, "RefreshDegraded"), ("True", "RefreshFailing"));
    }
}
