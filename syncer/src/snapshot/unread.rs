//! Looks at a Secret that may not be read, before it is written on hearsay: by a dry run of an empty patch, for which the
//! right to write is enough. What comes back is asked for as metadata, so no data of any Secret does, and nothing is
//! changed.
//!
//! With what it shows the first write of a process names the version that it replaces, like all others: an old leader's
//! may be on its way still. And what somebody else, or the peer, has under that name is known before anybody is asked.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::Instrument as _;

use crate::{
    binding::Binding,
    context::Context,
    kube_calls::{KubeError, Verb},
    pull_secret::{self, FIELD_MANAGER, SecretState},
};

/// How the API server refuses a look for good: the role or a policy does not allow it, or whoever validates does not take
/// the dry run.
const NOT_TO_BE_LEARNED: [u16; 3] = [400, 403, 422];

/// The Secret as it is; none if that is not to be learned. An admission policy that bounds the syncer refuses the look where
/// the Secret is somebody else's, but also where an earlier owner has let it go: the write then shows which.
///
/// # Errors
/// The look failed or was throttled, and the next one may tell.
pub async fn look(context: &Context, binding: &Binding) -> Result<Option<SecretState>, KubeError> {
    let name = pull_secret::name_of(binding);
    let secrets: Api<Secret> =
        Api::namespaced(context.client.clone(), &binding.namespace().unwrap_or_default());
    let dry = PatchParams {
        dry_run: true,
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let nothing = Patch::Merge(json!({}));
    let span = tracing::info_span!("look at Secret", otel.kind = "client", secret.name = name);
    let call = secrets.patch_metadata(&name, &dry, &nothing);
    let seen = context.calls.call(Verb::Patch, "secrets", call);
    match seen.instrument(span).await {
        Ok(secret) => Ok(Some(pull_secret::judge(&secret.metadata, binding))),
        Err(error) if error.is_not_found() => Ok(Some(SecretState::Absent)),
        Err(error) if NOT_TO_BE_LEARNED.contains(&error.code()) => Ok(None),
        Err(error) => Err(error),
    }
}
