//! The status of a binding that this version cannot read. What it says of the Secret and the link stays as it is,
//! because so do they: nobody knows what the binding asks for, and taking away what works helps nobody.

use k8s_openapi::jiff::Timestamp;
use proto::Reason;

use super::{
    Failure, condition,
    conditions::{
        CREDENTIAL_ISSUED, READY, SECRET_SYNCED, SERVICE_ACCOUNT_LINKED, STALLED, Verdict, of_others, put,
    },
    last_failure, seconds,
};
use crate::crd::AcrPullBindingStatus;

/// What is told of the decoder's complaint, in characters.
const LONGEST_COMPLAINT: usize = 400;

/// The status after a look at it. `complaint` is the decoder's.
pub fn unreadable(
    before: &AcrPullBindingStatus,
    generation: Option<i64>,
    complaint: &str,
    now: Timestamp,
) -> AcrPullBindingStatus {
    let complaint: String = complaint
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .take(LONGEST_COMPLAINT)
        .collect();
    let message = format!(
        "this version of the syncer cannot read the binding: {complaint}; its Secret and link stay as they are"
    );
    let at = seconds(now);
    let verdict = |abnormal: bool| {
        let verdict = Verdict::no(Reason::InvalidSpec, message.clone());
        if abnormal { verdict.abnormal() } else { verdict }
    };
    let ours = [(READY, false), (CREDENTIAL_ISSUED, false), (STALLED, true)];
    let kept = [SECRET_SYNCED, SERVICE_ACCOUNT_LINKED]
        .into_iter()
        .filter_map(|kind| {
            let mut kept = condition(&before.conditions, kind)?.clone();
            kept.observed_generation = generation;
            Some(kept)
        });
    let conditions = ours
        .into_iter()
        .map(|(kind, abnormal)| put(&before.conditions, kind, verdict(abnormal), generation, &at))
        .chain(kept)
        .chain(of_others(&before.conditions))
        .collect();
    let failure = Failure {
        reason: Reason::InvalidSpec.as_str(),
        message: &message,
        azure_request_id: None,
    };
    AcrPullBindingStatus {
        error: Some(message.clone()),
        conditions,
        observed_generation: generation,
        next_refresh_time: None,
        last_failure: last_failure(before, Some(failure), None, now),
        ..before.clone()
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use serde_json::json;

    use super::*;
    use crate::{
        plan::Link,
        pull_secret::Credential,
        samples::{binding, now, workload_identity_spec},
        status::{self, Observation},
    };

    const COMPLAINT: &str = "unknown variant `MoonCloud`";

    fn ready() -> AcrPullBindingStatus {
        let held = Credential {
            inputs: "wanted".to_owned(),
            fingerprint: proto::Fingerprint::of(b"payload"),
            refreshed_at: now(),
            expires_at: "2026-11-21T15:00:00Z".parse().unwrap(),
            refresh_at: "2026-11-21T13:30:00Z".parse().unwrap(),
        };
        let seen = Observation {
            generation: Some(3),
            secret_name: "acr-pull-web",
            link: &Link::Present,
            accounts: &["web"],
            inputs: Some("wanted"),
            credential: Some(&held),
            peers: None,
            problem: None,
            attempts: 0,
            degraded: false,
            asked_scope: "repository:a:pull",
            granted_scope: Some("repository:a:pull"),
            trace_id: None,
            now: now(),
        };
        status::next(&AcrPullBindingStatus::default(), &seen)
    }

    fn verdict<'a>(status: &'a AcrPullBindingStatus, kind: &str) -> Option<(&'a str, &'a str)> {
        condition(&status.conditions, kind).map(|one| (one.status.as_str(), one.reason.as_str()))
    }

    #[test]
    fn unreadable_binding_is_told_and_what_is_there_stays() {
        let before = ready();
        let after = unreadable(&before, Some(4), COMPLAINT, now());
        for kind in ["Ready", "CredentialIssued"] {
            assert_eq!(verdict(&after, kind), Some(("False", "InvalidSpec")));
        }
        assert_eq!(verdict(&after, "Stalled"), Some(("True", "InvalidSpec")));
        assert_eq!(verdict(&after, "Reconciling"), None);
        assert_eq!(verdict(&after, "SecretSynced"), Some(("True", "Applied")));
        assert_eq!(verdict(&after, "ServiceAccountLinked"), Some(("True", "Linked")));
        assert!(
            after
                .conditions
                .iter()
                .all(|one| one.observed_generation == Some(4))
        );
        assert_eq!(after.observed_generation, Some(4));
        assert_eq!(after.token_expiration_time, before.token_expiration_time);
        assert_eq!(after.next_refresh_time, None, "nobody will renew it");
        let message = after.error.clone().unwrap();
        assert!(
            message.contains(COMPLAINT) && message.contains("stay as they are"),
            "{message}"
        );
        assert_eq!(after.last_failure.as_ref().unwrap().reason, "InvalidSpec");
        let told = status::notices(
            &before,
            &after,
            &status::Names {
                secret: "acr-pull-web",
                account: "web",
            },
        );
        assert_eq!(told.len(), 1, "{told:?}");
    }

    #[test]
    fn unreadable_binding_that_is_looked_at_again_has_the_same_status() {
        let first = unreadable(&ready(), Some(4), COMPLAINT, now());
        let later = "2026-11-21T13:00:00Z".parse().unwrap();
        assert_eq!(unreadable(&first, Some(4), COMPLAINT, later), first);
    }

    #[test]
    fn unreadable_complaint_is_one_short_line() {
        let status = unreadable(
            &AcrPullBindingStatus::default(),
            Some(1),
            &"a\n\u{1b}[31m".repeat(10_000),
            now(),
        );
        let message = status.error.unwrap();
        assert!(
            message.chars().count() < 600 && !message.contains(['\n', '\u{1b}']),
            "{message}"
        );
    }

    #[test]
    fn unreadable_status_is_read_as_far_as_it_can_be() {
        let mut object = kube::api::DynamicObject {
            types: None,
            metadata: binding("web", workload_identity_spec()).metadata,
            data: json!({"status": {"observedGeneration": "three"}}),
        };
        assert_eq!(object.name_any(), "web");
        assert_eq!(status::of(&mut object), AcrPullBindingStatus::default());
    }
}
