//! Who wrote what in a Secret, as the API server keeps account of it: whoever changes a field takes it from its owner.
//! So neither a payload nor a time is believed that somebody else put there. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use serde_json::{Map, Value, json};

use super::{EXPIRY, FIELD_MANAGER, FINGERPRINT, INPUTS, REFRESH, REFRESH_AT};

/// Everybody whose writes are believed.
const BELIEVED: [Writer; 3] = [Writer::Applied, Writer::Updated, Writer::Peer];
/// The annotations that say what is in the payload and how long it is good.
pub(super) const ABOUT_THE_PAYLOAD: [&str; 5] = [EXPIRY, REFRESH, REFRESH_AT, INPUTS, FINGERPRINT];

/// Somebody whose writes are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// The syncer, with a whole Secret.
    Applied,
    /// The syncer, with the annotations alone: the server keeps a merge patch apart from an apply.
    Updated,
    /// Azure/msi-acrpull. Its field manager is the name of its program. A person's `kubectl` has another one: what
    /// somebody wrote by hand is not taken for the peer's.
    Peer,
}

impl Writer {
    const fn marks(self) -> (&'static str, &'static str) {
        match self {
            Self::Applied => (FIELD_MANAGER, "Apply"),
            Self::Updated => (FIELD_MANAGER, "Update"),
            Self::Peer => ("manager", "Update"),
        }
    }

    fn made(self, entry: &ManagedFieldsEntry) -> bool {
        let (manager, operation) = self.marks();
        entry.manager.as_deref() == Some(manager) && entry.operation.as_deref() == Some(operation)
    }
}

/// Whether the payload is still the one that this writer put there.
pub(super) fn payload_is_by(metadata: &ObjectMeta, writer: Writer) -> bool {
    entries(metadata).any(|entry| writer.made(entry) && owns_payload(entry))
}

/// Whether each of these annotations is still as one of these writers left it.
pub(super) fn annotations_are_by(metadata: &ObjectMeta, keys: &[&str], writers: &[Writer]) -> bool {
    keys.iter().all(|key| {
        entries(metadata)
            .any(|entry| writers.iter().any(|writer| writer.made(entry)) && owns_annotation(entry, key))
    })
}

/// What is read of an entry here; none if that is nothing.
pub(super) fn slim(entry: &mut ManagedFieldsEntry) -> Option<ManagedFieldsEntry> {
    BELIEVED.iter().any(|writer| writer.made(entry)).then_some(())?;
    let mut fields = Map::new();
    if owns_payload(entry) {
        fields.insert("f:data".to_owned(), json!({"f:.dockerconfigjson": {}}));
    }
    let annotations: Map<String, Value> = ABOUT_THE_PAYLOAD
        .into_iter()
        .filter(|key| owns_annotation(entry, key))
        .map(|key| (format!("f:{key}"), json!({})))
        .collect();
    if !annotations.is_empty() {
        fields.insert("f:metadata".to_owned(), json!({ "f:annotations": annotations }));
    }
    (!fields.is_empty()).then(|| ManagedFieldsEntry {
        manager: entry.manager.take(),
        operation: entry.operation.take(),
        fields_v1: Some(FieldsV1(Value::Object(fields))),
        ..ManagedFieldsEntry::default()
    })
}

fn entries(metadata: &ObjectMeta) -> impl Iterator<Item = &ManagedFieldsEntry> {
    metadata.managed_fields.iter().flatten()
}

fn owns_payload(entry: &ManagedFieldsEntry) -> bool {
    owns(entry, "f:data", |data| data.get("f:.dockerconfigjson").is_some())
}

fn owns_annotation(entry: &ManagedFieldsEntry, key: &str) -> bool {
    owns(entry, "f:metadata", |metadata| {
        let annotations = metadata.get("f:annotations").and_then(Value::as_object);
        annotations.is_some_and(|owned| {
            owned
                .keys()
                .any(|field| field.strip_prefix("f:").is_some_and(|field| field == key))
        })
    })
}

fn owns(entry: &ManagedFieldsEntry, part: &str, is_in: impl FnOnce(&Value) -> bool) -> bool {
    let fields = entry.fields_v1.as_ref();
    fields.and_then(|fields| fields.0.get(part)).is_some_and(is_in)
}
