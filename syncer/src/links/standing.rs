//! The live look-up before a link is removed: which pull Secrets of a namespace still have a binding behind them.
//!
//! Unfiltered and of both APIs: a label selector hides bindings of other controllers from this process, and a link
//! that another controller still needs must stay. So must one whose binding does not decode, because nobody knows what
//! it asks for. Reads only.

use std::collections::BTreeSet;

use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    core::DeserializeGuard,
};

use crate::{
    context::Context,
    crd::{AcrPullBinding, KIND, LEGACY_GROUP},
    kube_calls::{KubeCalls, KubeError, Verb},
    pull_secret,
};

/// Objects per page, as `kubectl` has it.
const PAGE: u32 = 500;
/// The ServiceAccount of an older binding that names none.
const DEFAULT_ACCOUNT: &str = "default";

/// The names of all pull Secrets that bindings of `namespace` want `account` to list.
pub(super) async fn behind(
    context: &Context,
    namespace: &str,
    account: &str,
) -> Result<BTreeSet<String>, KubeError> {
    let current: Api<DeserializeGuard<AcrPullBinding>> = Api::namespaced(context.client.clone(), namespace);
    let mut names: BTreeSet<String> = list_all(&context.calls, &current)
        .await?
        .iter()
        .filter(|binding| stands(binding, account))
        .map(|binding| pull_secret::name_for(&binding.name_any()))
        .collect();
    let kind = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(LEGACY_GROUP, "v1beta1", KIND),
        "acrpullbindings",
    );
    let legacy: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
    let legacy = match list_all(&context.calls, &legacy).await {
        Ok(bindings) => bindings,
        // The older API is not installed: nothing of it can stand behind a link.
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error),
    };
    names.extend(
        legacy
            .iter()
            .filter(|binding| binding.metadata.deletion_timestamp.is_none())
            .filter_map(|binding| {
                let named = binding
                    .data
                    .pointer("/spec/serviceAccountName")
                    .and_then(|name| name.as_str());
                let named = named.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_ACCOUNT);
                (named == account).then(|| format!("{}-msi-acrpull-secret", binding.name_any()))
            }),
    );
    Ok(names)
}

/// Whether the binding wants `account` to list its Secret, or may.
fn stands(binding: &DeserializeGuard<AcrPullBinding>, account: &str) -> bool {
    binding.meta().deletion_timestamp.is_none()
        && binding
            .0
            .as_ref()
            .map_or(true, |binding| binding.spec.service_account_name == account)
}

async fn list_all<K>(calls: &KubeCalls, api: &Api<K>) -> Result<Vec<K>, KubeError>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut params = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = calls
            .call(Verb::List, "acrpullbindings", api.list(&params))
            .await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::{ResourceExt, core::ObjectList};
    use serde_json::json;

    use super::*;
    use crate::samples::{binding, workload_identity_spec};

    #[test]
    fn standing_counts_a_binding_that_does_not_decode_for_every_account() {
        let good = serde_json::to_value(binding("good", workload_identity_spec())).unwrap();
        let mut bad = good.clone();
        bad["metadata"]["name"] = json!("bad");
        bad["spec"]["acr"]["environment"] = json!("MoonCloud");
        let mut leaving = bad.clone();
        leaving["metadata"]["name"] = json!("leaving");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-11-21T12:00:00Z");
        let list: ObjectList<DeserializeGuard<AcrPullBinding>> = serde_json::from_value(json!({
            "apiVersion": "acrpull.microsoft.com/v1beta2",
            "kind": "AcrPullBindingList",
            "metadata": {"resourceVersion": "100"},
            "items": [good, bad, leaving],
        }))
        .unwrap();
        let standing = |account: &str| -> Vec<String> {
            list.iter()
                .filter(|binding| stands(binding, account))
                .map(ResourceExt::name_any)
                .collect()
        };
        assert_eq!(standing("web"), ["good", "bad"]);
        assert_eq!(standing("other"), ["bad"]);
    }
}
