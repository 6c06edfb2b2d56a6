//! Tells bindings that a ServiceAccount lists their Secret no longer, because they name another one now. Those that are
//! gone are told nothing.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::ServiceAccount;

use super::linked;
use crate::{
    binding::{Binding, Bindings},
    events::Announcer,
    pull_secret,
    status::Notice,
};

/// Tells of a write that took `gone` out of the list of `before`.
pub(super) fn tell(
    events: &Announcer,
    bindings: &Bindings,
    before: &ServiceAccount,
    gone: &BTreeSet<String>,
) {
    let account = before.metadata.name.as_deref().unwrap_or_default();
    for binding in left_behind(bindings, before, gone) {
        let notice = Notice::unlinked(&pull_secret::name_of(&binding), account);
        events.announce(&binding, vec![notice]);
    }
}

/// The bindings that are there and whose Secrets the ServiceAccount listed until now.
fn left_behind(bindings: &Bindings, before: &ServiceAccount, gone: &BTreeSet<String>) -> Vec<Arc<Binding>> {
    let removed: BTreeSet<_> = linked(before).intersection(gone).cloned().collect();
    if removed.is_empty() {
        return Vec::new();
    }
    let namespace = before.metadata.namespace.as_deref().unwrap_or_default();
    bindings.in_namespace(namespace, |binding| {
        binding.metadata.deletion_timestamp.is_none() && removed.contains(&pull_secret::name_of(binding))
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::LocalObjectReference;
    use kube::{ResourceExt as _, runtime::watcher::Event};

    use super::*;
    use crate::{
        binding::ApiVersion,
        links::RECORD_ANNOTATION,
        samples::{account, binding_of},
    };

    #[test]
    fn unlinked_bindings_that_are_there_are_told_and_no_others() {
        let (bindings, mut writers) = Bindings::empty();
        for name in ["moved", "stays", "elsewhere"] {
            let mut binding = binding_of(ApiVersion::V1Beta2, name);
            if name == "elsewhere" {
                binding.metadata.namespace = Some("another".to_owned());
            }
            writers.v1beta2.apply_watcher_event(&Event::Apply(binding));
        }
        let mut before = account("web");
        let names = ["moved", "stays", "elsewhere", "gone"].map(|name| format!("acr-pull-{name}"));
        before
            .annotations_mut()
            .insert(RECORD_ANNOTATION.to_owned(), names.join(","));
        let listed = names
            .iter()
            .map(|name| LocalObjectReference { name: name.clone() });
        before.image_pull_secrets = Some(listed.collect());
        let gone = ["acr-pull-moved", "acr-pull-elsewhere", "acr-pull-gone"].map(str::to_owned);
        let told = left_behind(&bindings, &before, &gone.into());
        let told: Vec<_> = told.iter().map(|binding| binding.name_any()).collect();
        assert_eq!(told, ["moved"]);
        assert!(left_behind(&bindings, &before, &BTreeSet::new()).is_empty());
    }
}
