//! The objects of an API server, and what a write makes of them, as far as the decisions depend on it, with the behaviour
//! that was seen on a real one: preconditions, apply with and without force, immutable fields, one controller per object.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use syncer::{binding::Binding, pull_secret, status};

use crate::{
    cases::place,
    fields::{changed, wrote_all},
    meaning::Meaning,
    patches::{decoded, merge, merged, over, patched},
};

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
    /// It takes effect a while later, if it can then, and whoever sent it has given up by then.
    Late,
}

/// A write, and what is to be known to judge it.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// A merge patch of a Secret's metadata.
    SecretMetadata { patch: Value, basis: Basis },
    /// A server-side apply of a Secret.
    Secret {
        object: Box<Secret>,
        is_forced: bool,
        basis: Basis,
    },
    /// A merge patch of a ServiceAccount, while bindings claimed these links.
    Account {
        key: Key,
        patch: Value,
        claimed: BTreeSet<String>,
    },
    /// A merge patch of a binding's metadata.
    Finalizer { slot: usize, patch: Value },
    /// A merge patch of a binding's status, which needs no version.
    Status {
        slot: usize,
        uid: Option<String>,
        patch: Value,
    },
}

/// What a write of a Secret was decided on.
#[derive(Debug, Clone)]
pub(crate) struct Basis {
    pub(crate) slot: usize,
    /// There was a Secret.
    pub(crate) is_over: bool,
    /// What the binding wanted, as far as the process knew.
    pub(crate) meaning: Option<Meaning>,
    /// The hash of that.
    pub(crate) inputs: Option<String>,
    /// Somebody asked for a new token.
    pub(crate) is_requested: bool,
}

/// The answer to a write.
#[derive(Debug, Clone)]
pub(crate) enum Written {
    Secret(Box<ObjectMeta>),
    Account(Box<ServiceAccount>),
    /// The version of the binding.
    Binding(Option<String>),
}

/// Two servers are equal if nothing was written in between.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Objects {
    pub(crate) bindings: BTreeMap<usize, Binding>,
    pub(crate) secrets: BTreeMap<Key, Secret>,
    pub(crate) accounts: BTreeMap<Key, ServiceAccount>,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) objects: Objects,
    /// Bindings that were deleted, by uid: what they own goes as soon as it is seen.
    pub(crate) deleted: BTreeSet<String>,
    serial: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            objects: Objects::default(),
            deleted: BTreeSet::new(),
            // The version of an empty store, which no object has.
            serial: 1,
        }
    }
}

pub(crate) fn key(metadata: &ObjectMeta) -> Key {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// The Secret of a binding.
pub(crate) fn secret_key(slot: usize) -> Key {
    let (api, name, namespace) = place(slot);
    (namespace.to_owned(), pull_secret::name_for(api, name))
}

impl Objects {
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
    /// A number that was never used before, for uids and versions.
    pub(crate) fn next(&mut self) -> String {
        self.serial += 1;
        self.serial.to_string()
    }

    /// Does it, if its preconditions hold.
    pub(crate) fn perform(&mut self, write: &Write) -> Result<Written, Refusal> {
        match write {
            Write::SecretMetadata { patch, basis } => {
                let key = secret_key(basis.slot);
                let secret = self.objects.secrets.get(&key).ok_or(Refusal(404))?;
                let mut after = patched(secret, &secret.metadata, patch)?;
                changed(&secret.metadata, &mut after.metadata);
                Ok(self.put_secret(key, after))
            }
            Write::Secret {
                object, is_forced, ..
            } => {
                let key = key(&object.metadata);
                let mut after = match self.objects.secrets.get(&key) {
                    None if object.metadata.uid.is_some() => return Err(Refusal(409)),
                    None => {
                        let mut created = Secret::clone(object);
                        created.metadata.uid = Some(self.next());
                        created
                    }
                    Some(before) => over(before, object, *is_forced)?,
                };
                let applied = wrote_all(pull_secret::FIELD_MANAGER, "Apply");
                after.metadata.managed_fields = Some(vec![applied]);
                Ok(self.put_secret(key, after))
            }
            Write::Account { key, patch, .. } => {
                let account = self.objects.accounts.get(key).ok_or(Refusal(404))?;
                let mut after: ServiceAccount = patched(account, &account.metadata, patch)?;
                after.metadata.resource_version = Some(self.next());
                self.objects.accounts.insert(key.clone(), after.clone());
                Ok(Written::Account(Box::new(after)))
            }
            Write::Finalizer { slot, patch } => {
                let binding = self.objects.bindings.get(slot).ok_or(Refusal(404))?;
                let document = json!({"metadata": binding.metadata});
                let after = merged(&binding.metadata, document, patch)?;
                let version = self.next();
                let binding = self.objects.bindings.get_mut(slot).ok_or(Refusal(404))?;
                binding.metadata = decoded(after["metadata"].clone());
                binding.metadata.resource_version = Some(version.clone());
                Ok(Written::Binding(Some(version)))
            }
            Write::Status { slot, uid, patch } => {
                let version = self.next();
                let binding = self.objects.bindings.get_mut(slot).ok_or(Refusal(404))?;
                if *uid != binding.metadata.uid {
                    return Err(Refusal(409));
                }
                let mut document = json!({"status": binding.status.clone().unwrap_or_default()});
                merge(&mut document, patch);
                binding.status = Some(decoded(document["status"].clone()));
                binding.metadata.resource_version = Some(version.clone());
                Ok(Written::Binding(Some(version)))
            }
        }
    }

    fn put_secret(&mut self, key: Key, mut secret: Secret) -> Written {
        secret.metadata.resource_version = Some(self.next());
        let metadata = secret.metadata.clone();
        self.objects.secrets.insert(key, secret);
        Written::Secret(Box::new(metadata))
    }

    /// Takes away what the deleted bindings own.
    pub(crate) fn collect_garbage(&mut self) {
        let deleted = &self.deleted;
        self.objects.secrets.retain(|_key, secret| {
            let owners = secret.metadata.owner_references.as_deref().unwrap_or_default();
            owners.is_empty() || !owners.iter().all(|owner| deleted.contains(&owner.uid))
        });
    }

    /// The names of the Secrets that bindings want this ServiceAccount to list.
    pub(crate) fn claims(&self, (namespace, name): &Key) -> BTreeSet<String> {
        let bindings = self.objects.bindings.values().filter(|binding| {
            let spec = &binding.spec;
            let is_named = spec.service_account_name == *name || spec.service_account_names.contains(name);
            binding.metadata.namespace.as_ref() == Some(namespace) && is_named
        });
        bindings
            .map(|binding| pull_secret::name_for(binding.api, &binding.name_any()))
            .collect()
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
