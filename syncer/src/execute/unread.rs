//! Writes a Secret that may not be read. Without force at first: the server then refuses to touch what somebody else wrote.
//! By force only where an admission policy is known to refuse the same for Secrets of others.

use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use proto::Reason;

use super::{NotWritten, StoreError, fence, judged, patch_secret};
use crate::{
    binding::Binding,
    context::Context,
    credential::Answer,
    guard_rails::GuardRails,
    problem::Problem,
    pull_secret::{self, SecretState},
    unread_secret::Known,
};

/// Stores an answer of the broker. Foreign if the Secret is somebody else's; it is unchanged then. Outpaced if it is not as
/// it is known: deleted, made anew, or changed by anybody.
///
/// # Errors
/// Kubernetes refused or failed.
pub async fn store_unread(
    context: &Context,
    guard_rails: &GuardRails,
    binding: &Binding,
    known: &Known,
    answer: &Answer,
    request: Option<&str>,
) -> Result<SecretState, StoreError> {
    let Some(payload) = &answer.payload else {
        let problem = Problem::new(Reason::Internal, "the broker sent nothing to store");
        return Err(StoreError::Refused(problem));
    };
    let annotations = pull_secret::annotations(binding, &answer.credential, request);
    let object = pull_secret::object(binding, payload, annotations);
    let object = Patch::Apply(fence::over_unread(object, known));
    let unforced = PatchParams::apply(pull_secret::FIELD_MANAGER);
    let what = "apply Secret";
    let mut written = patch_secret(context, binding, &unforced, &object, what).await;
    // The Secret was written by somebody else: by another controller for this binding, by a person who changed ours, or
    // by its owner. Only the server sees which.
    if matches!(&written, Err(error) if error.is_field_conflict()) {
        let namespace = binding.namespace().unwrap_or_default();
        if !guard_rails.bound_secrets_in(&namespace).await {
            return Ok(SecretState::Foreign);
        }
        written = patch_secret(context, binding, &unforced.force(), &object, what).await;
        // Another type is told first, before any policy is asked; ours have the right one.
        if matches!(&written, Err(error) if error.is_denied_by_policy() || error.is_immutable("type")) {
            return Ok(SecretState::Foreign);
        }
    }
    judged(binding, written.map_err(NotWritten::applying)).map(SecretState::Ours)
}
