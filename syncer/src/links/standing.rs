//! The live look-up before a link is removed: which pull Secrets of a namespace still have a binding behind them.
//!
//! Unfiltered and of both APIs: a label selector hides bindings of other controllers from this process, and a link
//! that another controller still needs must stay. Reads only.

use std::collections::BTreeSet;

use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
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
    let current: Api<AcrPullBinding> = Api::namespaced(context.client.clone(), namespace);
    let mut names: BTreeSet<String> = list_all(&context.calls, &current)
        .await?
        .iter()
        .filter(|binding| binding.spec.service_account_name == account)
        .filter(|binding| binding.metadata.deletion_timestamp.is_none())
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
