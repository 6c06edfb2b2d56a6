//! A Secret that the syncer may write and not read (`--secrets-access=write-only`): what it holds is known from our own
//! last write, and after a restart from the binding's status. Before the first write of a process it is looked at, see
//! `snapshot::unread`. Pure.
//!
//! Nobody tells when somebody deletes or overwrites such a Secret. So it is written again now and then, whatever is known
//! of it; the broker has the credential and asks nobody for it. A write that is refused because the Secret is another one
//! shows that nothing is known: then it counts as gone, and is looked at and written without waiting for anything.

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
    /// How it is, as far as this process knows.
    pub known: Known,
    /// Our last write, or look, met somebody else's.
    pub is_foreign: bool,
    /// When a write was last due, whatever came of it.
    pub tried_at: Option<Timestamp>,
}

/// How a Secret is that may not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Known {
    /// This process has neither written it nor looked at it: the binding's status may tell.
    #[default]
    Told,
    /// As our last write left it, or as it was when it was looked at.
    Seen(Box<PullSecret>),
    /// There was none when it was looked at.
    Absent,
    /// Not as it was left or seen, and not as the status tells either.
    Unknown,
}

impl UnreadSecret {
    /// The Secret was written, or looked at, and is like this now.
    pub fn saw(&mut self, secret: &SecretState) {
        self.is_foreign = *secret == SecretState::Foreign;
        self.known = match secret {
            SecretState::Ours(secret) => Known::Seen(Box::new(secret.clone())),
            SecretState::Absent => Known::Absent,
            SecretState::Foreign => Known::Unknown,
        };
    }

    /// A write was refused, because the Secret is not as it is known.
    pub fn forget(&mut self) {
        self.known = Known::Unknown;
    }

    /// Whether a look is worth a call before the next write: that is decided on hearsay otherwise. One that was to be taken
    /// over and still is may have been deleted since, or taken over by a write whose answer was lost.
    pub fn is_hearsay(&self) -> bool {
        match &self.known {
            Known::Told | Known::Unknown => true,
            Known::Seen(secret) => !secret.adopted,
            Known::Absent => false,
        }
    }
}

/// What is known of the Secret. One of somebody else counts as such until it is time to try again.
pub fn state(binding: &Binding, memory: &BindingMemory, now: Timestamp) -> SecretState {
    let UnreadSecret {
        known,
        is_foreign,
        tried_at: _,
    } = &memory.unread;
    let is_too_early = || memory.failures.as_ref().is_some_and(|run| now < run.next_at);
    match known {
        _ if *is_foreign && is_too_early() => SecretState::Foreign,
        _ if *is_foreign => SecretState::Absent,
        Known::Seen(secret) => SecretState::Ours(PullSecret::clone(secret)),
        Known::Absent | Known::Unknown => SecretState::Absent,
        Known::Told => told(binding).map_or(SecretState::Absent, SecretState::Ours),
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
mod tests;
