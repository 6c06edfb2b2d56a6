//! Tells bindings that a ServiceAccount lists their Secret no longer, because they name another one now. Those that are
//! gone are told nothing.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ServiceAccount;

use super::linked;
use crate::{binding::Bindings, events::Announcer, pull_secret, status::Notice};

/// Tells of a write that took `gone` out of the list of `before`.
pub(super) fn tell(
    events: &Announcer,
    bindings: &Bindings,
    before: &ServiceAccount,
    gone: &BTreeSet<String>,
) {
    if gone.is_empty() {
        return;
    }
    let removed: BTreeSet<_> = linked(before).intersection(gone).cloned().collect();
    let left_behind = bindings.filter(|binding| {
        binding.metadata.namespace == before.metadata.namespace
            && binding.metadata.deletion_timestamp.is_none()
            && removed.contains(&pull_secret::name_of(binding))
    });
    let account = before.metadata.name.as_deref().unwrap_or_default();
    for binding in left_behind {
        let notice = Notice::unlinked(&pull_secret::name_of(&binding), account);
        events.announce(&binding, vec![notice]);
    }
}
