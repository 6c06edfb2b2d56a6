//! The live look-up before a link is removed: which pull Secrets of a namespace still have a binding behind them.
//!
//! Unfiltered and of both APIs: a label selector hides bindings of other controllers from this process, and a link
//! that another controller still needs must stay. So must one whose binding does not decode, because nobody knows what
//! it asks for. Reads only.

use std::{collections::BTreeSet, fmt::Debug};

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt as _, api::ListParams, core::DeserializeGuard};
use serde::de::DeserializeOwned;

use crate::{
    binding::{ApiVersion, account_of},
    context::Context,
    crd::{self, v1beta1},
    kube_calls::{KubeCalls, KubeError, Verb},
    pull_secret,
};

/// Objects per page, as `kubectl` has it.
const PAGE: u32 = 500;

/// A binding as it is written, which says which ServiceAccounts are to list its Secret.
trait Written:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
    const API: ApiVersion;

    fn is_for(&self, account: &str) -> bool;
}

impl Written for crd::AcrPullBinding {
    const API: ApiVersion = ApiVersion::V1Beta2;

    fn is_for(&self, account: &str) -> bool {
        self.spec.is_for(account)
    }
}

impl Written for v1beta1::AcrPullBinding {
    const API: ApiVersion = ApiVersion::V1Beta1;

    fn is_for(&self, account: &str) -> bool {
        account_of(self.spec.service_account_name.as_deref()) == account
    }
}

/// The names of all pull Secrets that bindings of `namespace` want `account` to list.
pub(super) async fn behind(
    context: &Context,
    namespace: &str,
    account: &str,
) -> Result<BTreeSet<String>, KubeError> {
    let mut names = behind_of::<crd::AcrPullBinding>(context, namespace, account).await?;
    names.extend(behind_of::<v1beta1::AcrPullBinding>(context, namespace, account).await?);
    Ok(names)
}

async fn behind_of<K: Written>(
    context: &Context,
    namespace: &str,
    account: &str,
) -> Result<BTreeSet<String>, KubeError> {
    let api: Api<DeserializeGuard<K>> = Api::namespaced(context.client.clone(), namespace);
    match list_all(&context.calls, &api).await {
        Ok(bindings) => Ok(names(&bindings, account).collect()),
        // The API is not installed: nothing of it can stand behind a link.
        Err(error) if error.is_not_found() => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

fn names<K: Written>(bindings: &[DeserializeGuard<K>], account: &str) -> impl Iterator<Item = String> {
    bindings
        .iter()
        .filter(move |binding| stands(binding, account))
        .map(|binding| pull_secret::name_for(K::API, &binding.name_any()))
}

/// Whether the binding wants `account` to list its Secret, or may.
fn stands<K: Written>(binding: &DeserializeGuard<K>, account: &str) -> bool {
    binding.meta().deletion_timestamp.is_none()
        && binding.0.as_ref().map_or(true, |binding| binding.is_for(account))
}

async fn list_all<K>(calls: &KubeCalls, api: &Api<K>) -> Result<Vec<K>, KubeError>
where
    K: Clone + DeserializeOwned + Debug,
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
    use kube::core::ObjectList;
    use serde_json::{Value, json};

    use super::*;
    use crate::samples::{manifest, older_spec, workload_identity_spec};

    /// The names that stand behind links of two accounts, of a list with `good`, one that does not decode because of
    /// `bad`, and one more that is being deleted.
    fn standing<K: Written>(good: &Value, bad: impl Fn(&mut Value)) -> [Vec<String>; 2] {
        let mut unreadable = good.clone();
        unreadable["metadata"]["name"] = json!("bad");
        bad(&mut unreadable);
        let mut leaving = unreadable.clone();
        leaving["metadata"]["name"] = json!("leaving");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-11-21T12:00:00Z");
        let list: ObjectList<DeserializeGuard<K>> = serde_json::from_value(json!({
            "apiVersion": K::API.as_str(),
            "kind": "AcrPullBindingList",
            "metadata": {"resourceVersion": "100"},
            "items": [good, unreadable, leaving],
        }))
        .unwrap();
        ["web", "other"].map(|account| names(&list.items, account).collect())
    }

    #[test]
    fn standing_counts_a_binding_that_does_not_decode_for_every_account() {
        let good = serde_json::to_value(manifest("good", workload_identity_spec())).unwrap();
        let standing = standing::<crd::AcrPullBinding>(&good, |spec| {
            spec["spec"]["acr"]["environment"] = json!("MoonCloud");
        });
        assert_eq!(standing[0], ["acr-pull-good", "acr-pull-bad"]);
        assert_eq!(standing[1], ["acr-pull-bad"]);
    }

    #[test]
    fn standing_counts_every_account_that_a_binding_names() {
        let mut spec = workload_identity_spec();
        spec.service_account_names = vec!["other".to_owned()];
        let good = serde_json::to_value(manifest("good", spec)).unwrap();
        let standing = standing::<crd::AcrPullBinding>(&good, |spec| {
            spec["spec"]["serviceAccountNames"] = json!("web");
        });
        assert_eq!(standing[0], ["acr-pull-good", "acr-pull-bad"]);
        assert_eq!(standing[1], ["acr-pull-good", "acr-pull-bad"]);
    }

    #[test]
    fn standing_counts_bindings_of_the_older_api() {
        let good = v1beta1::AcrPullBinding::new("good", older_spec());
        let good = serde_json::to_value(good).unwrap();
        let standing = standing::<v1beta1::AcrPullBinding>(&good, |spec| {
            spec["spec"]["acrServer"] = json!(1);
        });
        assert_eq!(standing[0], ["good-msi-acrpull-secret", "bad-msi-acrpull-secret"]);
        assert_eq!(standing[1], ["bad-msi-acrpull-secret"]);
    }

    #[test]
    fn standing_older_binding_that_names_no_account_is_of_the_default_one() {
        for name in [None, Some(String::new())] {
            let spec = v1beta1::AcrPullBindingSpec {
                service_account_name: name,
                ..older_spec()
            };
            assert!(v1beta1::AcrPullBinding::new("web", spec).is_for("default"));
        }
    }
}
