//! A Secret that the syncer may write and not read (`--secrets-access=write-only`): what it holds is known from our own
//! last write, and after a restart from the binding's status. Pure.
//!
//! Nobody tells when somebody deletes or overwrites such a Secret. So it is written again now and then, whatever is known
//! of it; the broker has the credential and asks nobody for it.

mod answered;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use proto::Fingerprint;

pub use self::answered::{is_better, settled};
use crate::{
    binding::Binding,
    crd::CredentialRecord,
    inputs,
    memory::BindingMemory,
    pull_secret::{self, Credential, PullSecret, SecretState},
};

/// How long a Secret that somebody deleted or overwrote may stay so.
const REAPPLY: Duration = Duration::from_secs(10 * 60);

/// What is remembered of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnreadSecret {
    /// As our last write left it.
    pub written: Option<PullSecret>,
    /// Our last write met somebody else's.
    pub is_foreign: bool,
    /// When a write was last due, whatever came of it.
    pub tried_at: Option<Timestamp>,
}

impl UnreadSecret {
    /// The Secret is not as our last write left it, and nobody knows how it is. The write that showed it is still due:
    /// `tried_at` is when one was due before it.
    pub fn forget(&mut self, tried_at: Option<Timestamp>) {
        self.written = None;
        self.tried_at = tried_at;
    }
}

/// What is known of the Secret. One of somebody else counts as such until it is time to try again.
pub fn state(binding: &Binding, memory: &BindingMemory, now: Timestamp) -> SecretState {
    let UnreadSecret {
        written,
        is_foreign,
        tried_at: _,
    } = &memory.unread;
    let is_too_early = || memory.failures.as_ref().is_some_and(|run| now < run.next_at);
    match written {
        _ if *is_foreign && is_too_early() => SecretState::Foreign,
        _ if *is_foreign => SecretState::Absent,
        Some(written) => SecretState::Ours(written.clone()),
        None => told(binding).map_or(SecretState::Absent, SecretState::Ours),
    }
}

/// The Secret as the status tells of it. None if it speaks of another spec, or does not say enough: the CRD of the peer
/// keeps neither what the token was issued for nor when it is due.
fn told(binding: &Binding) -> Option<PullSecret> {
    let status = binding.status.as_ref()?;
    let speaks_of_this = status.observed_generation == binding.metadata.generation
        && status.pull_secret_name.as_ref() == Some(&pull_secret::name_of(binding));
    let record = status.credential.as_ref().filter(|_record| speaks_of_this)?;
    let fingerprint = inputs::unhex(&record.fingerprint)?;
    let credential = Credential {
        inputs: record.inputs.clone(),
        fingerprint: Fingerprint::try_from(fingerprint.as_slice()).ok()?,
        refreshed_at: status.last_token_refresh_time.as_ref()?.0,
        expires_at: status.token_expiration_time.as_ref()?.0,
        refresh_at: status.next_refresh_time.as_ref()?.0,
    };
    Some(PullSecret {
        uid: String::new(),
        resource_version: String::new(),
        adopted: true,
        credential: Some(credential).filter(Credential::is_consistent),
        answered_request: record.refresh_request.clone(),
        peers: None,
    })
}

/// What the status is to tell of the Secret, for [`state`] after a restart.
pub fn record(secret: &PullSecret) -> Option<CredentialRecord> {
    let Credential {
        inputs, fingerprint, ..
    } = secret.credential.as_ref()?;
    Some(CredentialRecord {
        inputs: inputs.clone(),
        fingerprint: inputs::hex(fingerprint.as_bytes()),
        refresh_request: secret.answered_request.clone(),
    })
}

/// When it is to be written again although nothing has changed. The first time after a start comes earlier, at a moment
/// of each binding's own: all were seen first at the same time.
pub fn reapply_at(binding: &Binding, memory: &BindingMemory) -> Timestamp {
    let (since, pause) = match memory.unread.tried_at {
        Some(tried_at) => (tried_at, REAPPLY),
        None => (
            memory.first_seen,
            REAPPLY.mul_f64(share(&binding.uid().unwrap_or_default())),
        ),
    };
    since
        .saturating_add(SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

/// A number in [0, 1) that belongs to the text.
fn share(text: &str) -> f64 {
    const STEPS: u32 = 1 << 16;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let step = u32::try_from(hasher.finish() % u64::from(STEPS)).unwrap_or_default();
    f64::from(step) / f64::from(STEPS)
}

#[cfg(test)]
mod tests {
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
        memory.unread.written = Some(PullSecret {
            answered_request: None,
            ..written()
        });
        assert_eq!(
            state(&binding, &memory, now()),
            SecretState::Ours(memory.unread.written.clone().unwrap())
        );
    }

    #[test]
    fn b6_unread_secret_of_somebody_else_is_left_alone_until_the_next_try() {
        let (binding, mut memory) = restarted();
        memory.unread.is_foreign = true;
        let run = FailureRun::after(None, "", Problem::new(Reason::SecretConflict, "no"), now(), 0.0);
        memory.failures = Some(run.clone());
        assert_eq!(state(&binding, &memory, now()), SecretState::Foreign);
        assert_eq!(state(&binding, &memory, run.next_at), SecretState::Absent);
    }

    #[test]
    fn unread_secret_that_is_not_as_it_was_left_is_not_foreign_and_is_due_again() {
        let (binding, mut memory) = restarted();
        let due_at = now() + 10.minutes();
        memory.unread = UnreadSecret {
            written: Some(written()),
            is_foreign: false,
            tried_at: Some(due_at),
        };
        memory.unread.forget(Some(now()));
        assert_eq!(reapply_at(&binding, &memory), due_at);
        let SecretState::Ours(told) = state(&binding, &memory, due_at) else {
            panic!("the status tells of it")
        };
        assert_eq!(told.uid, "", "the next write is made whatever is there");
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
}
