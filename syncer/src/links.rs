//! The links: which pull Secrets a ServiceAccount lists in `imagePullSecrets`, and which of them are ours.
//!
//! The list is one atomic field that belongs to everybody, and a kubelet tries its entries in order. So foreign
//! entries keep their place and order, ours come last and never move, and only names that the record (an annotation
//! of ours on the ServiceAccount) holds are ever removed. The decision here is pure; `links::keeper` does the work.

mod keeper;
mod standing;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use serde_json::{Value, json};

pub use keeper::{LinkKeeper, Linked};

/// The names that we added to, or adopted in, `imagePullSecrets`; separated by commas.
pub const RECORD_ANNOTATION: &str = "acrpull.microsoft.com/linked-secrets";

/// What a ServiceAccount should list and record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    entries: Vec<String>,
    record: BTreeSet<String>,
}

/// Whether the ServiceAccount lists the Secret and records that it is ours.
pub fn has(account: &ServiceAccount, secret_name: &str) -> bool {
    entries(account).any(|entry| entry == secret_name) && record(account).contains(secret_name)
}

/// The names that the ServiceAccount lists and records as ours.
pub fn linked(account: &ServiceAccount) -> BTreeSet<String> {
    let record = record(account);
    entries(account)
        .filter(|entry| record.contains(*entry))
        .map(str::to_owned)
        .collect()
}

/// The names that the record holds.
pub fn record(account: &ServiceAccount) -> BTreeSet<String> {
    let record = account
        .annotations()
        .get(RECORD_ANNOTATION)
        .map(String::as_str)
        .unwrap_or_default();
    record
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The change that is needed, if one is: `wanted` are to be linked, `gone` to be removed if they are recorded.
pub fn change(account: &ServiceAccount, wanted: &BTreeSet<String>, gone: &BTreeSet<String>) -> Option<Links> {
    let before = Links {
        entries: entries(account).map(str::to_owned).collect(),
        record: record(account),
    };
    let removed: BTreeSet<_> = before
        .record
        .intersection(gone)
        .filter(|name| !wanted.contains(*name))
        .collect();
    let mut after = Links {
        entries: before
            .entries
            .iter()
            .filter(|name| !removed.contains(name))
            .cloned()
            .collect(),
        record: before
            .record
            .iter()
            .filter(|name| !removed.contains(name))
            .chain(wanted)
            .cloned()
            .collect(),
    };
    let missing: Vec<_> = wanted
        .iter()
        .filter(|name| !after.entries.contains(name))
        .cloned()
        .collect();
    after.entries.extend(missing);
    (after != before).then_some(after)
}

impl Links {
    /// The write: list and record at once, and only over the version that the decision was made on.
    fn merge_patch(&self, resource_version: Option<&str>) -> Value {
        let entries: Vec<Value> = self.entries.iter().map(|name| json!({ "name": name })).collect();
        let record = match self.record.len() {
            0 => Value::Null,
            _ => Value::from(
                self.record
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(","),
            ),
        };
        json!({
            "metadata": { "resourceVersion": resource_version, "annotations": { RECORD_ANNOTATION: record } },
            "imagePullSecrets": entries,
        })
    }
}

fn entries(account: &ServiceAccount) -> impl Iterator<Item = &str> {
    account
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|entry| entry.name.as_str())
}

/// Drops from a watched ServiceAccount what is never read. What remains is enough to write the list back whole.
pub fn slim(account: &mut ServiceAccount) {
    let metadata = &mut account.metadata;
    metadata.managed_fields = None;
    metadata.labels = None;
    metadata.owner_references = None;
    account.secrets = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _value| {
            key == RECORD_ANNOTATION
                || key == crate::wanted::CLIENT_ID_ANNOTATION
                || key == crate::wanted::TENANT_ID_ANNOTATION
        });
    }
}

/// Names a ServiceAccount.
pub fn account_ref(namespace: &str, name: &str) -> ObjectRef<ServiceAccount> {
    ObjectRef::new(name).within(namespace)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
pub(crate) mod tests {
    use k8s_openapi::api::core::v1::LocalObjectReference;

    use super::*;
    use crate::samples::account;

    /// Links a Secret as the syncer does.
    pub(crate) fn link(account: &mut ServiceAccount, name: &str) {
        account
            .image_pull_secrets
            .get_or_insert_default()
            .push(LocalObjectReference {
                name: name.to_owned(),
            });
        let mut names = record(account);
        names.insert(name.to_owned());
        let names = names.into_iter().collect::<Vec<_>>().join(",");
        account
            .annotations_mut()
            .insert(RECORD_ANNOTATION.to_owned(), names);
    }

    fn with(listed: &[&str], recorded: &[&str]) -> ServiceAccount {
        let mut account = account("web");
        account.image_pull_secrets = Some(
            listed
                .iter()
                .map(|name| LocalObjectReference {
                    name: (*name).to_owned(),
                })
                .collect(),
        );
        account
            .annotations_mut()
            .insert(RECORD_ANNOTATION.to_owned(), recorded.join(","));
        account
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn changed(
        account: &ServiceAccount,
        wanted: &[&str],
        gone: &[&str],
    ) -> Option<(Vec<String>, Vec<String>)> {
        let links = change(account, &names(wanted), &names(gone))?;
        Some((links.entries, links.record.into_iter().collect()))
    }

    fn lists(entries: &[&str], record: &[&str]) -> (Vec<String>, Vec<String>) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        (owned(entries), owned(record))
    }

    #[test]
    fn link_first_one_makes_the_list() {
        assert_eq!(
            changed(&account("web"), &["acr-pull-a"], &[]),
            Some(lists(&["acr-pull-a"], &["acr-pull-a"]))
        );
    }

    #[test]
    fn link_ours_come_last_and_foreign_ones_keep_their_order() {
        let account = with(&["z-user", "acr-pull-b", "a-user", "a-user"], &["acr-pull-b"]);
        assert_eq!(
            changed(&account, &["acr-pull-b", "acr-pull-a"], &[]),
            Some(lists(
                &["z-user", "acr-pull-b", "a-user", "a-user", "acr-pull-a"],
                &["acr-pull-a", "acr-pull-b"]
            ))
        );
    }

    #[test]
    fn link_that_is_there_already_is_adopted_in_place() {
        let account = with(&["acr-pull-a", "user"], &[]);
        assert!(!has(&account, "acr-pull-a"));
        assert_eq!(
            changed(&account, &["acr-pull-a"], &[]),
            Some(lists(&["acr-pull-a", "user"], &["acr-pull-a"]))
        );
    }

    #[test]
    fn link_settled_account_needs_no_write() {
        let account = with(&["user", "acr-pull-a"], &["acr-pull-a"]);
        assert!(has(&account, "acr-pull-a"));
        assert_eq!(changed(&account, &["acr-pull-a"], &[]), None);
    }

    #[test]
    fn unlink_removes_recorded_names_only() {
        let account = with(&["acr-pull-theirs", "acr-pull-a", "user"], &["acr-pull-a"]);
        assert_eq!(
            changed(&account, &[], &["acr-pull-a", "acr-pull-theirs"]),
            Some(lists(&["acr-pull-theirs", "user"], &[]))
        );
    }

    #[test]
    fn unlink_of_a_name_that_is_wanted_again_does_nothing() {
        let account = with(&["acr-pull-a"], &["acr-pull-a"]);
        assert_eq!(changed(&account, &["acr-pull-a"], &["acr-pull-a"]), None);
    }

    #[test]
    fn unlink_of_a_name_that_a_user_removed_cleans_the_record() {
        let account = with(&["user"], &["acr-pull-a"]);
        assert_eq!(
            changed(&account, &[], &["acr-pull-a"]),
            Some(lists(&["user"], &[]))
        );
    }

    #[test]
    fn link_patch_writes_list_and_record_over_one_version() {
        let links = change(&with(&["user"], &[]), &names(&["acr-pull-a"]), &BTreeSet::new()).unwrap();
        assert_eq!(
            links.merge_patch(Some("200")),
            json!({
                "metadata": {"resourceVersion": "200", "annotations": {RECORD_ANNOTATION: "acr-pull-a"}},
                "imagePullSecrets": [{"name": "user"}, {"name": "acr-pull-a"}],
            })
        );
        let empty = change(
            &with(&["acr-pull-a"], &["acr-pull-a"]),
            &BTreeSet::new(),
            &names(&["acr-pull-a"]),
        );
        let patch = empty.unwrap().merge_patch(None);
        assert_eq!(
            patch["metadata"]["annotations"][RECORD_ANNOTATION],
            Value::Null,
            "null deletes the key"
        );
    }

    #[test]
    fn slim_account_keeps_what_decisions_need() {
        let mut account = with(&["user"], &["acr-pull-a"]);
        account
            .annotations_mut()
            .insert(crate::wanted::CLIENT_ID_ANNOTATION.to_owned(), "id".to_owned());
        account.annotations_mut().insert(
            "kubectl.kubernetes.io/last-applied-configuration".to_owned(),
            "{}".to_owned(),
        );
        slim(&mut account);
        assert_eq!(account.annotations().len(), 2);
        assert_eq!(account.resource_version().as_deref(), Some("200"));
    }
}
