//! The links: which pull Secrets a ServiceAccount lists in `imagePullSecrets`, and which of them are ours.
//!
//! The list is one atomic field that belongs to everybody, and a kubelet tries its entries in order. So foreign
//! entries keep their place and order, ours come last, those of `v1beta2` before those of `v1beta1`, and keep their
//! order, and only names that the record (an annotation of ours on the ServiceAccount) holds are ever removed. The decision here is pure; `links::keeper` does the work.

pub mod contests;
mod keeper;
mod standing;
mod targets;
mod unlinked;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use serde_json::{Value, json};

pub use keeper::{LinkKeeper, Linked};
pub use targets::{Due, Link, Target, due, named};

use crate::{binding::ApiVersion, pull_secret};

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

/// The ServiceAccount as it would be if this link, which it lists, were one of ours: for a link that the peer made.
fn claimed(account: &ServiceAccount, secret_name: &str) -> ServiceAccount {
    let mut names = record(account);
    if entries(account).any(|entry| entry == secret_name) {
        names.insert(secret_name.to_owned());
    }
    let mut account = account.clone();
    let names = names.into_iter().collect::<Vec<_>>().join(",");
    account
        .annotations_mut()
        .insert(RECORD_ANNOTATION.to_owned(), names);
    account
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
    let (older, current): (Vec<_>, Vec<_>) = missing.into_iter().partition(|name| is_older(name));
    let place = after.entries.len() - after.older_at_the_end();
    after.entries.splice(place..place, current);
    after.entries.extend(older);
    (after != before).then_some(after)
}

/// Whether the Secret is of a binding of `v1beta1`.
fn is_older(secret_name: &str) -> bool {
    pull_secret::api_of_name(secret_name) == Some(ApiVersion::V1Beta1)
}

impl Links {
    /// How many entries at the end are ours and of `v1beta1`: those of `v1beta2` come before them.
    fn older_at_the_end(&self) -> usize {
        let entries = self.entries.iter().rev();
        entries
            .take_while(|name| self.record.contains(*name) && is_older(name))
            .count()
    }

    /// The write: list and record at once, and only over the version that the decision was made on.
    pub fn merge_patch(&self, resource_version: Option<&str>) -> Value {
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
pub(crate) mod tests;
