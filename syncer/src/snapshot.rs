//! Reads what a decision needs, from the stores of the watches and what the process remembers. One live read is
//! possible: the Secret, by name and metadata only, when the watch does not know it, because it watches Secrets with
//! our label and the name may be taken by one without. Writes nothing.

use std::sync::Arc;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, ResourceExt as _, runtime::reflector::ObjectRef};

use crate::{
    context::Context,
    crd::{AcrPullBinding, AcrPullBindingStatus},
    kube_calls::{KubeError, Verb},
    links,
    memory::{BindingMemory, Echo},
    plan::Snapshot,
    pull_secret::{self, SecretState},
};

/// Reads everything about `binding`.
///
/// # Errors
/// The live read failed.
pub async fn load(context: &Context, binding: Arc<AcrPullBinding>) -> Result<Snapshot, KubeError> {
    let key = ObjectRef::from_obj(binding.as_ref());
    let mut memory = context
        .memory
        .of(&key, &binding.uid().unwrap_or_default(), context.now());
    let namespace = binding.namespace().unwrap_or_default();
    let account = |name: &str| context.links.account(&links::account_ref(&namespace, name));
    Ok(Snapshot {
        target_account: account(&binding.spec.service_account_name),
        identity_account: binding.spec.identity_account().and_then(account),
        secret: secret(context, &binding, &namespace, &mut memory).await?,
        memory,
        binding,
    })
}

async fn secret(
    context: &Context,
    binding: &AcrPullBinding,
    namespace: &str,
    memory: &mut BindingMemory,
) -> Result<SecretState, KubeError> {
    let name = pull_secret::name_for(&binding.name_any());
    let key = ObjectRef::new(&name).within(namespace);
    if let Some(seen) = context.secrets.get(&key) {
        return Ok(watched_secret(&seen.metadata, binding, memory));
    }
    // A live read needs no echo, it is the newest there is.
    memory.secret = None;
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let live = context
        .calls
        .call(Verb::Get, "secrets", api.get_metadata_opt(&name))
        .await?;
    Ok(live.map_or(SecretState::Absent, |live| {
        pull_secret::judge(&live.metadata, binding)
    }))
}

/// The Secret that the watch knows: as watched, or as we last wrote it if the watch lags behind.
pub(crate) fn watched_secret(
    seen: &ObjectMeta,
    binding: &AcrPullBinding,
    memory: &mut BindingMemory,
) -> SecretState {
    let SecretState::Ours(secret) = pull_secret::judge(seen, binding) else {
        return SecretState::Foreign;
    };
    let version = secret.resource_version.clone();
    SecretState::Ours(Echo::newer(&mut memory.secret, &version, secret))
}

/// The binding's status: as watched, or as we last wrote it if the watch lags behind.
pub fn status(binding: &AcrPullBinding, memory: &mut BindingMemory) -> AcrPullBindingStatus {
    let version = binding.resource_version().unwrap_or_default();
    Echo::newer(
        &mut memory.status,
        &version,
        binding.status.clone().unwrap_or_default(),
    )
}
