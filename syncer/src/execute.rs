//! Writes to Kubernetes: one function per write, each idempotent and safe by itself. Decides nothing.
//!
//! A write of a Secret names the version that it was decided on, or that there was none. So one that hung somewhere while
//! another process took over cannot put an older token over a newer one. Only of a Secret that may not be read, and whose
//! look (`snapshot::unread`) is refused for good, nobody knows the version until the first write of a process is made; where
//! the look merely failed there is no write. A status names none: the peer, people and our own last write change the
//! binding all the time, and a word that is out of date is put right by the next pass.

pub mod fence;
mod unread;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::{Value, json};
use tracing::Instrument as _;

pub use unread::store_unread;

use crate::{
    binding::{ApiVersion, Binding, BindingRef},
    context::Context,
    crd::AcrPullBindingStatus,
    credential::Answer,
    finalizer,
    kube_calls::{KubeError, Verb},
    problem::Problem,
    pull_secret::{self, PullSecret, SecretState},
    status,
};

/// Why a Secret was not written.
#[derive(Debug)]
pub enum StoreError {
    /// Somebody else wrote it, or made or deleted it, since it was read.
    Outpaced(Problem),
    /// Something stands in the way.
    Refused(Problem),
}

/// Makes the binding the one owner of its Secret and puts the label back.
///
/// A merge patch and not an apply: the owner entry of an earlier binding belongs to another field manager, and the
/// server refuses two controllers, whoever forces.
///
/// # Errors
/// Kubernetes refused or failed.
pub async fn adopt(
    context: &Context,
    binding: &Binding,
    secret: &PullSecret,
) -> Result<PullSecret, StoreError> {
    let adoption = pull_secret::adoption(binding);
    let patch = json!({
        "metadata": {
            "uid": secret.uid,
            "resourceVersion": secret.resource_version,
            "labels": adoption.labels,
            "ownerReferences": adoption.owner_references,
        },
        // Metadata does not tell the type, and it cannot be changed: of another type nothing is taken over.
        "type": pull_secret::SECRET_TYPE,
    });
    let patch = Patch::Merge(patch);
    let written = patch_secret(context, binding, &PatchParams::default(), &patch, "adopt Secret").await;
    judged(binding, written.map_err(NotWritten::changing))
}

/// Stores an answer of the broker: the whole Secret, or only the times when the payload is there already.
///
/// # Errors
/// Kubernetes refused or failed.
pub async fn store(
    context: &Context,
    binding: &Binding,
    secret: Option<&PullSecret>,
    answer: &Answer,
    request: Option<&str>,
) -> Result<PullSecret, StoreError> {
    let annotations = pull_secret::annotations(binding, &answer.credential, request);
    match (&answer.payload, secret) {
        (None, None) => Err(StoreError::Refused(Problem::new(
            proto::Reason::Internal,
            "the broker sent nothing to store",
        ))),
        (None, Some(secret)) => {
            let patch = Patch::Merge(json!({"metadata": {
                "uid": secret.uid,
                "resourceVersion": secret.resource_version,
                "annotations": annotations,
            }}));
            let written =
                patch_secret(context, binding, &PatchParams::default(), &patch, "apply Secret").await;
            judged(binding, written.map_err(NotWritten::changing))
        }
        (Some(payload), secret) => {
            let object = fence::over(pull_secret::object(binding, payload, annotations), secret);
            let params = PatchParams::apply(pull_secret::FIELD_MANAGER);
            // Ours may be forced. Where there was nothing to take over there is nothing to force.
            let params = if secret.is_some() { params.force() } else { params };
            let written =
                patch_secret(context, binding, &params, &Patch::Apply(object), "apply Secret").await;
            judged(binding, written.map_err(NotWritten::applying))
        }
    }
}

/// Patches the Secret. The answer is asked for as metadata, so that no data of any Secret comes back.
async fn patch_secret<P>(
    context: &Context,
    binding: &Binding,
    params: &PatchParams,
    patch: &Patch<P>,
    what: &'static str,
) -> Result<PartialObjectMeta<Secret>, KubeError>
where
    P: serde::Serialize + std::fmt::Debug,
{
    let name = pull_secret::name_of(binding);
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &binding.namespace().unwrap_or_default());
    let params = PatchParams {
        field_manager: Some(pull_secret::FIELD_MANAGER.to_owned()),
        ..params.clone()
    };
    let span = tracing::info_span!(
        "apply Secret",
        otel.kind = "client",
        otel.name = what,
        secret.name = name
    );
    let call = api.patch_metadata(&name, &params, patch);
    context
        .calls
        .call(Verb::Patch, "secrets", call)
        .instrument(span)
        .await
}

/// A write that was refused.
struct NotWritten {
    error: KubeError,
    /// Because the Secret is not the one any more that it was decided on.
    is_race: bool,
}

impl NotWritten {
    /// An apply, which makes what is not there. Another Secret of the name has another uid, and that cannot be changed.
    fn applying(error: KubeError) -> Self {
        let is_race = error.is_conflict() || error.is_immutable("metadata.uid");
        Self { error, is_race }
    }

    /// A change of what was there when it was decided on.
    fn changing(error: KubeError) -> Self {
        let is_gone = error.is_not_found();
        let refused = Self::applying(error);
        Self {
            is_race: refused.is_race || is_gone,
            ..refused
        }
    }
}

/// What a write has left, or why it could not be made.
fn judged(
    binding: &Binding,
    written: Result<PartialObjectMeta<Secret>, NotWritten>,
) -> Result<PullSecret, StoreError> {
    let tried = format!("write Secret {}", pull_secret::name_of(binding));
    let written = written.map_err(|NotWritten { error, is_race }| {
        let problem = error.into_problem(&tried).of_the_secret();
        if is_race {
            StoreError::Outpaced(problem)
        } else {
            StoreError::Refused(problem)
        }
    })?;
    match pull_secret::judge(&written.metadata, binding) {
        SecretState::Ours(secret) => Ok(secret),
        SecretState::Foreign | SecretState::Absent => Err(StoreError::Refused(Problem::new(
            proto::Reason::SecretConflict,
            format!("cannot {tried}: somebody else took it over"),
        ))),
    }
}

/// Removes the peer's finalizer from a binding with this metadata, and says in which version it is gone. Somebody else's
/// change of the binding is a conflict.
///
/// # Errors
/// Kubernetes refused or failed.
pub async fn remove_finalizer(
    context: &Context,
    api: ApiVersion,
    namespace: &str,
    name: &str,
    metadata: &ObjectMeta,
) -> Result<Option<String>, KubeError> {
    let kind = ApiResource::erase::<Binding>(&api);
    let bindings: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
    let params = PatchParams {
        field_manager: Some(pull_secret::FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(finalizer::removal(metadata));
    let call = bindings.patch_metadata(name, &params, &patch);
    let after = context.calls.call(Verb::Patch, "acrpullbindings", call).await?;
    Ok(after.resource_version())
}

/// A status after it was written.
#[derive(Debug)]
pub struct WrittenStatus {
    /// What Kubernetes has kept of it: an older CRD drops what it does not know.
    pub kept: AcrPullBindingStatus,
    /// The version that the write came to.
    pub version: Option<String>,
}

/// Writes the status. The uid keeps it from another binding that has the name by now.
///
/// # Errors
/// Kubernetes refused or failed.
pub async fn write_status(
    context: &Context,
    binding: &BindingRef,
    uid: Option<&str>,
    mut patch: Value,
) -> Result<WrittenStatus, KubeError> {
    let kind = ApiResource::erase::<Binding>(&binding.dyntype);
    let namespace = binding.namespace.as_deref().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
    if let Value::Object(fields) = &mut patch {
        fields.insert("metadata".to_owned(), json!({ "uid": uid }));
    }
    let params = PatchParams {
        field_manager: Some(status::FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(patch);
    let call = api.patch_status(&binding.name, &params, &patch);
    let mut written = context
        .calls
        .call(Verb::Patch, "acrpullbindings/status", call)
        .await?;
    Ok(WrittenStatus {
        version: written.resource_version(),
        kept: status::of(&mut written),
    })
}

#[cfg(test)]
mod tests;
