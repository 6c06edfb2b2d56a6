//! An API server, as far as the decisions depend on it, with the behaviour that was seen on a real one: preconditions,
//! apply with and without force, immutable fields, one controller per object. It judges each write of the syncer as it
//! makes it: what it may never do is asserted here, so that it holds in every state in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use k8s_openapi::{
    api::core::v1::{Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta},
    jiff::Timestamp,
};
use kube::ResourceExt as _;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use syncer::{binding::Binding, links, pull_secret, status};

/// Namespace and name.
pub(crate) type Key = (String, String);

/// The code with which a write was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) u16);

/// What becomes of a write.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// It succeeds.
    None,
    /// It is refused with this code.
    Refused(u16),
    /// It takes effect, and its answer is lost.
    Lost,
}

/// The objects. Two servers are equal if nothing was written in between.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Objects {
    pub(crate) bindings: BTreeMap<usize, Binding>,
    pub(crate) secrets: BTreeMap<Key, Secret>,
    pub(crate) accounts: BTreeMap<Key, ServiceAccount>,
    serial: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Server {
    pub(crate) objects: Objects,
    /// What the next writes come to; those after them succeed.
    pub(crate) faults: VecDeque<Fault>,
}

pub(crate) fn key(metadata: &ObjectMeta) -> Key {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

pub(crate) fn secret_key(binding: &Binding) -> Key {
    (
        binding.namespace().unwrap_or_default(),
        pull_secret::name_of(binding),
    )
}

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
    let annotations = TIMES.iter().chain(&OTHERS);
    let payload = json!({"f:.dockerconfigjson": {}});
    wrote(manager, operation, &payload, annotations)
}

/// The entries after somebody wrote the payload of a Secret of ours.
pub(crate) fn payload_taken(manager: &str) -> Vec<ManagedFieldsEntry> {
    let payload = json!({"f:.dockerconfigjson": {}});
    vec![
        wrote(manager, "Update", &payload, [].iter()),
        wrote(
            pull_secret::FIELD_MANAGER,
            "Apply",
            &json!({}),
            TIMES.iter().chain(&OTHERS),
        ),
    ]
}

/// The entries after somebody wrote the times of a Secret of ours.
pub(crate) fn times_taken(manager: &str) -> Vec<ManagedFieldsEntry> {
    let payload = json!({"f:.dockerconfigjson": {}});
    vec![
        wrote(manager, "Update", &json!({}), TIMES.iter()),
        wrote(pull_secret::FIELD_MANAGER, "Apply", &payload, OTHERS.iter()),
    ]
}

fn wrote<'a>(
    manager: &str,
    operation: &str,
    data: &Value,
    annotations: impl Iterator<Item = &'a &'a str>,
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

impl Objects {
    /// A number that was never used before, for uids and versions.
    pub(crate) fn next(&mut self) -> String {
        self.serial += 1;
        self.serial.to_string()
    }

    /// What is not the same in the other one, to be read.
    pub(crate) fn changes(&self, other: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for (slot, binding) in &self.bindings {
            let (was, is) = (settled(binding), settled(&other.bindings[slot]));
            if was != is {
                let [was, is] = [was, is].map(|binding| binding.status.unwrap_or_default());
                changes.push(format!("binding {slot}: {:?}", status::merge_patch(&was, &is)));
            }
        }
        for (key, secret) in &self.secrets {
            let is = &other.secrets[key];
            if secret != is {
                changes.push(format!("{:?} became {:?}", secret.metadata, is.metadata));
            }
        }
        for (key, account) in &self.accounts {
            let is = &other.accounts[key];
            if account != is {
                changes.push(format!("{account:?} became {is:?}"));
            }
        }
        changes
    }
}

impl Server {
    /// True if the answer is to be lost.
    fn admit(&mut self) -> Result<bool, Refusal> {
        match self.faults.pop_front() {
            None | Some(Fault::None) => Ok(false),
            Some(Fault::Refused(code)) => Err(Refusal(code)),
            Some(Fault::Lost) => Ok(true),
        }
    }

    /// A merge patch of the metadata of a Secret.
    pub(crate) fn patch_secret(&mut self, key: &Key, patch: &Value) -> Result<ObjectMeta, Refusal> {
        let is_lost = self.admit()?;
        let secret = self.objects.secrets.get(key).ok_or(Refusal(404))?;
        let mut after = patched(secret, &secret.metadata, patch)?;
        assert_eq!(secret.data, after.data, "metadata is patched and nothing else");
        after.metadata.resource_version = Some(self.objects.next());
        let metadata = after.metadata.clone();
        self.objects.secrets.insert(key.clone(), after);
        answered(metadata, is_lost)
    }

    /// A server-side apply of a Secret.
    pub(crate) fn apply_secret(&mut self, object: &Secret, is_forced: bool) -> Result<ObjectMeta, Refusal> {
        let is_lost = self.admit()?;
        let key = key(&object.metadata);
        let applied = vec![wrote_all(pull_secret::FIELD_MANAGER, "Apply")];
        let mut after = match self.objects.secrets.get(&key) {
            None if object.metadata.uid.is_some() => return Err(Refusal(409)),
            None => {
                let mut created = object.clone();
                created.metadata.uid = Some(self.objects.next());
                created
            }
            Some(before) => over(before, object, is_forced)?,
        };
        after.metadata.managed_fields = Some(applied);
        after.metadata.resource_version = Some(self.objects.next());
        let metadata = after.metadata.clone();
        self.objects.secrets.insert(key, after);
        answered(metadata, is_lost)
    }

    /// A merge patch of a ServiceAccount. What is not ours stays, and where it is.
    pub(crate) fn patch_account(&mut self, key: &Key, patch: &Value) -> Result<ServiceAccount, Refusal> {
        let is_lost = self.admit()?;
        let account = self.objects.accounts.get(key).ok_or(Refusal(404))?;
        let mut after: ServiceAccount = patched(account, &account.metadata, patch)?;
        let claimed: BTreeSet<_> = self.claims(key).collect();
        let recorded = links::record(account);
        let foreign = |account: &ServiceAccount| {
            let mut names = listed(account);
            names.retain(|name| !recorded.contains(name) && !claimed.contains(name));
            names
        };
        assert_eq!(foreign(account), foreign(&after), "foreign entries of {key:?}");
        for name in listed(account) {
            assert!(
                listed(&after).contains(&name) || recorded.contains(&name) && !claimed.contains(&name),
                "{name} was removed from {key:?}, recorded {recorded:?}, claimed {claimed:?}"
            );
        }
        after.metadata.resource_version = Some(self.objects.next());
        self.objects.accounts.insert(key.clone(), after.clone());
        answered(after, is_lost)
    }

    /// A merge patch of a binding's metadata: the peer's finalizer.
    pub(crate) fn patch_binding(&mut self, slot: usize, patch: &Value) -> Result<(), Refusal> {
        let is_lost = self.admit()?;
        let binding = self.objects.bindings.get(&slot).ok_or(Refusal(404))?;
        let document = json!({"metadata": binding.metadata});
        let after = merged(&binding.metadata, document, patch)?;
        let version = self.objects.next();
        let binding = self.objects.bindings.get_mut(&slot).ok_or(Refusal(404))?;
        binding.metadata = decoded(after.get("metadata").cloned().unwrap_or_default());
        binding.metadata.resource_version = Some(version);
        answered((), is_lost)
    }

    /// The status of a binding, by a patch that needs no version.
    pub(crate) fn write_status(
        &mut self,
        slot: usize,
        status: syncer::crd::AcrPullBindingStatus,
    ) -> Result<(), Refusal> {
        let is_lost = self.admit()?;
        let version = self.objects.next();
        let binding = self.objects.bindings.get_mut(&slot).ok_or(Refusal(404))?;
        binding.status = Some(status);
        binding.metadata.resource_version = Some(version);
        answered((), is_lost)
    }

    /// The names of the Secrets that bindings want this ServiceAccount to list.
    pub(crate) fn claims(&self, (namespace, name): &Key) -> impl Iterator<Item = String> {
        self.objects
            .bindings
            .values()
            .filter(move |binding| {
                binding.metadata.namespace.as_ref() == Some(namespace) && binding.spec.is_for(name)
            })
            .map(pull_secret::name_of)
    }

    /// When the payload of a Secret ends by its annotations.
    pub(crate) fn expiry(secret: &Secret) -> Option<Timestamp> {
        let annotations = secret.metadata.annotations.as_ref()?;
        annotations.get("acr.microsoft.com/token.expiry")?.parse().ok()
    }
}

/// A binding without the count of its failures, which goes on growing and is written now and then.
fn settled(binding: &Binding) -> Binding {
    let mut settled = binding.clone();
    settled.metadata.resource_version = None;
    if let Some(status) = &mut settled.status {
        status.consecutive_failures = None;
    }
    settled
}

/// The names that a ServiceAccount lists, in order.
pub(crate) fn listed(account: &ServiceAccount) -> Vec<String> {
    let entries = account.image_pull_secrets.iter().flatten();
    entries.map(|entry| entry.name.clone()).collect()
}

/// An apply over a Secret that is there.
fn over(before: &Secret, object: &Secret, is_forced: bool) -> Result<Secret, Refusal> {
    let (old, new) = (&before.metadata, &object.metadata);
    if new.uid.is_some() && new.uid != old.uid {
        return Err(Refusal(422));
    }
    if new.resource_version.is_some() && new.resource_version != old.resource_version {
        return Err(Refusal(409));
    }
    if !is_forced {
        return Err(Refusal(409));
    }
    if before.type_ != object.type_ || before.immutable == Some(true) && before.data != object.data {
        return Err(Refusal(422));
    }
    let mut owners = old.owner_references.clone().unwrap_or_default();
    for owner in new.owner_references.iter().flatten() {
        owners.retain(|other| other.uid != owner.uid);
        owners.push(owner.clone());
    }
    if owners
        .iter()
        .filter(|owner| owner.controller == Some(true))
        .count()
        > 1
    {
        return Err(Refusal(422));
    }
    let mut after = before.clone();
    after.data.clone_from(&object.data);
    let metadata = &mut after.metadata;
    metadata.owner_references = Some(owners);
    metadata
        .labels
        .get_or_insert_default()
        .extend(new.labels.clone().unwrap_or_default());
    metadata
        .annotations
        .get_or_insert_default()
        .extend(new.annotations.clone().unwrap_or_default());
    Ok(after)
}

fn patched<T: Serialize + DeserializeOwned>(
    object: &T,
    metadata: &ObjectMeta,
    patch: &Value,
) -> Result<T, Refusal> {
    let document = serde_json::to_value(object).unwrap_or_default();
    merged(metadata, document, patch).map(decoded)
}

/// A merge patch, if its preconditions hold.
fn merged(metadata: &ObjectMeta, mut document: Value, patch: &Value) -> Result<Value, Refusal> {
    let wanted = &patch["metadata"];
    let fits = |field: &str, is: &Option<String>| {
        let wanted = wanted.get(field).filter(|wanted| !wanted.is_null());
        wanted.is_none_or(|wanted| wanted.as_str() == is.as_deref())
    };
    if !fits("uid", &metadata.uid) || !fits("resourceVersion", &metadata.resource_version) {
        return Err(Refusal(409));
    }
    merge(&mut document, patch);
    Ok(document)
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, change) in changes {
        if change.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name.as_str()], change);
        }
    }
}

fn decoded<T: DeserializeOwned>(document: Value) -> T {
    serde_json::from_value(document).unwrap()
}

fn answered<T>(answer: T, is_lost: bool) -> Result<T, Refusal> {
    if is_lost { Err(Refusal(500)) } else { Ok(answer) }
}
