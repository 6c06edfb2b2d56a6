use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::ToSpan as _};
use proto::Reason;

use super::*;
use crate::{
    crd::AcrPullBindingStatus,
    problem::Problem,
    samples::{binding, now, workload_identity_spec},
    schedule::FailureRun,
};

pub(super) fn written() -> PullSecret {
    PullSecret {
        uid: "uid-of-secret".to_owned(),
        resource_version: "7".to_owned(),
        adopted: true,
        credential: Some(Credential {
            inputs: "inputs".to_owned(),
            fingerprint: Fingerprint::of(b"payload"),
            refreshed_at: now() - 10.minutes(),
            expires_at: now() + 60.minutes(),
            refresh_at: now() + 30.minutes(),
        }),
        answered_request: Some("monday".to_owned()),
        peers: None,
    }
}

/// A binding with the status that follows from [`written`], and what a new process remembers of it.
fn restarted() -> (Binding, BindingMemory) {
    let mut binding = binding("web", workload_identity_spec());
    let credential = written().credential.unwrap();
    binding.status = Some(AcrPullBindingStatus {
        observed_generation: binding.metadata.generation,
        pull_secret_name: Some("acr-pull-web".to_owned()),
        last_token_refresh_time: Some(Time(credential.refreshed_at)),
        token_expiration_time: Some(Time(credential.expires_at)),
        next_refresh_time: Some(Time(credential.refresh_at)),
        credential: record(&written()),
        ..AcrPullBindingStatus::default()
    });
    let memory = BindingMemory::new("uid-of-web", now());
    (binding, memory)
}

#[test]
fn unread_secret_after_a_restart_is_what_the_status_tells() {
    let (binding, memory) = restarted();
    let SecretState::Ours(told) = state(&binding, &memory, now()) else {
        panic!("the status tells of it");
    };
    assert_eq!(told.credential, written().credential);
    assert_eq!(told.answered_request, written().answered_request);
    assert!(told.adopted, "nothing is to be taken over on hearsay");
}

#[test]
fn unread_secret_of_another_spec_or_an_older_crd_is_not_known() {
    type Change = fn(&mut AcrPullBindingStatus);
    let changes: [Change; 6] = [
        |status| status.observed_generation = Some(2),
        |status| status.pull_secret_name = Some("other".to_owned()),
        |status| status.credential = None,
        |status| status.next_refresh_time = None,
        |status| status.token_expiration_time = None,
        |status| status.credential.as_mut().unwrap().fingerprint = "?".to_owned(),
    ];
    for change in changes {
        let (mut binding, memory) = restarted();
        change(binding.status.as_mut().unwrap());
        assert_eq!(
            state(&binding, &memory, now()),
            SecretState::Absent,
            "{:?}",
            binding.status
        );
    }
}

#[test]
fn unread_secret_of_our_own_write_counts_before_the_status() {
    let (binding, mut memory) = restarted();
    let newer = SecretState::Ours(PullSecret {
        answered_request: None,
        ..written()
    });
    memory.unread.saw(&newer);
    assert_eq!(state(&binding, &memory, now()), newer);
}

#[test]
fn b6_unread_secret_of_somebody_else_is_left_alone_until_the_next_try() {
    let (binding, mut memory) = restarted();
    memory.unread.saw(&SecretState::Foreign);
    let run = FailureRun::after(None, "", Problem::new(Reason::SecretConflict, "no"), now(), 0.0);
    memory.failures = Some(run.clone());
    assert_eq!(state(&binding, &memory, now()), SecretState::Foreign);
    assert_eq!(state(&binding, &memory, run.next_at), SecretState::Absent);
    assert!(memory.unread.is_hearsay(), "it is looked at before it is written");
}

#[test]
fn unread_secret_that_is_not_as_it_was_left_counts_as_gone_whatever_the_status_tells() {
    let (binding, mut memory) = restarted();
    memory.unread.saw(&SecretState::Ours(written()));
    assert!(!memory.unread.is_hearsay());
    memory.unread.forget();
    assert_eq!(state(&binding, &memory, now()), SecretState::Absent);
    assert!(memory.unread.is_hearsay());
    // Until somebody looks, or writes it.
    memory.unread.saw(&SecretState::Absent);
    assert!(!memory.unread.is_hearsay());
    assert_eq!(state(&binding, &memory, now()), SecretState::Absent);
}

#[test]
fn b14_unread_secret_whose_status_tells_times_that_cannot_be_true_is_written_again() {
    let (mut binding, memory) = restarted();
    let expiry = Time("2099-01-01T00:00:00Z".parse().unwrap());
    binding.status.as_mut().unwrap().token_expiration_time = Some(expiry);
    assert_eq!(state(&binding, &memory, now()).credential(), None);
}

#[test]
fn unread_secret_is_written_again_within_ten_minutes_and_at_a_start_not_all_at_once() {
    let (mut binding, mut memory) = restarted();
    let mut moments = Vec::new();
    for number in 0..100 {
        binding.metadata.uid = Some(format!("uid-{number}"));
        moments.push(reapply_at(&binding, &memory));
    }
    moments.sort();
    assert!(
        moments
            .iter()
            .all(|at| (now()..now() + 10.minutes()).contains(at))
    );
    assert!(moments[10] < now() + 3.minutes() && moments[90] > now() + 7.minutes());
    memory.unread.tried_at = Some(now());
    assert_eq!(reapply_at(&binding, &memory), now() + 10.minutes());
}
