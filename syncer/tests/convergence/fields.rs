//! Who manages which field of a Secret, as the API server keeps account of it.

use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta},
};
use serde_json::{Value, json};
use syncer::pull_secret::FIELD_MANAGER;

/// The annotations that say how long a payload is good, and what it is.
const TIMES: [&str; 2] = [
    "acr.microsoft.com/token.expiry",
    "acrpull.microsoft.com/refresh-at",
];
const OTHERS: [&str; 3] = [
    "acr.microsoft.com/token.refresh",
    "acrpull.microsoft.com/inputs",
    "acrpull.microsoft.com/fingerprint",
];

/// The entry of somebody who wrote the payload and all that is said about it.
pub(crate) fn wrote_all(manager: &str, operation: &str) -> ManagedFieldsEntry {
    let annotations = TIMES.iter().chain(&OTHERS).copied();
    wrote(manager, operation, &payload(), annotations)
}

/// The entries after somebody wrote the payload of a Secret of ours.
pub(crate) fn payload_taken(manager: &str) -> Vec<ManagedFieldsEntry> {
    let annotations = TIMES.iter().chain(&OTHERS).copied();
    vec![
        wrote(manager, "Update", &payload(), [].into_iter()),
        wrote(FIELD_MANAGER, "Apply", &json!({}), annotations),
    ]
}

/// The entries after somebody wrote the times of a Secret of ours.
pub(crate) fn times_taken(manager: &str) -> Vec<ManagedFieldsEntry> {
    vec![
        wrote(manager, "Update", &json!({}), TIMES.into_iter()),
        wrote(FIELD_MANAGER, "Apply", &payload(), OTHERS.into_iter()),
    ]
}

/// What a merge patch of ours changed in the annotations: it is ours then, and nobody else's, but not as if it was applied.
pub(crate) fn changed(before: &ObjectMeta, after: &mut ObjectMeta) {
    let (old, new) = (before.annotations.as_ref(), after.annotations.as_ref());
    let is_same = |key: &str, value: &String| old.and_then(|old| old.get(key)) == Some(value);
    let changed: Vec<String> = new
        .into_iter()
        .flatten()
        .filter(|(key, value)| !is_same(key, value))
        .map(|(key, _value)| key.clone())
        .collect();
    if changed.is_empty() {
        return;
    }
    let entries = after.managed_fields.get_or_insert_default();
    let is_updated = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Update")
    };
    if !entries.iter().any(is_updated) {
        entries.push(wrote(FIELD_MANAGER, "Update", &json!({}), [].into_iter()));
    }
    for entry in entries {
        let is_ours = is_updated(entry);
        let fields = entry.fields_v1.as_mut().unwrap();
        let annotations = fields.0["f:metadata"]["f:annotations"].as_object_mut().unwrap();
        for key in &changed {
            annotations.remove(&format!("f:{key}"));
            if is_ours {
                annotations.insert(format!("f:{key}"), json!({}));
            }
        }
    }
}

/// Whether the payload is the one that the syncer wrote.
pub(crate) fn is_payload_ours(secret: &Secret) -> bool {
    secret.metadata.managed_fields.iter().flatten().any(|entry| {
        let is_applied =
            entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply");
        let fields = entry.fields_v1.as_ref();
        is_applied && fields.is_some_and(|fields| fields.0["f:data"] == payload())
    })
}

/// Whether an apply of ours meets a field that somebody else manages, a metadata patch of ours included.
pub(crate) fn is_anybody_elses(metadata: &ObjectMeta) -> bool {
    let others = metadata.managed_fields.iter().flatten().filter(|entry| {
        entry.manager.as_deref() != Some(FIELD_MANAGER) || entry.operation.as_deref() != Some("Apply")
    });
    let fields = others.filter_map(|entry| entry.fields_v1.as_ref());
    fields.into_iter().any(|fields| {
        let annotations = fields.0["f:metadata"]["f:annotations"].as_object();
        fields.0["f:data"] == payload() || annotations.is_some_and(|owned| !owned.is_empty())
    })
}

fn payload() -> Value {
    json!({"f:.dockerconfigjson": {}})
}

fn wrote(
    manager: &str,
    operation: &str,
    data: &Value,
    annotations: impl Iterator<Item = &'static str>,
) -> ManagedFieldsEntry {
    let annotations: serde_json::Map<_, _> = annotations.map(|key| (format!("f:{key}"), json!({}))).collect();
    ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some(operation.to_owned()),
        fields_v1: Some(FieldsV1(
            json!({"f:data": data, "f:metadata": {"f:annotations": annotations}, "f:type": {}}),
        )),
        ..ManagedFieldsEntry::default()
    }
}
