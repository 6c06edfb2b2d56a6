//! What others do between the passes. The watches show it when they do; what befalls the processes is in
//! [`crate::takeover`].

use k8s_openapi::api::core::v1::{LocalObjectReference, Secret, ServiceAccount};
use kube::ResourceExt as _;
use syncer::{
    binding::Binding,
    finalizer,
    links::{self, RECORD_ANNOTATION},
    pull_secret::REFRESH_REQUESTED,
    schedule::later,
    wanted::{CLIENT_ID_ANNOTATION, TENANT_ID_ANNOTATION},
};

use crate::{
    cases::{Change, Disturbance, Shape, place},
    fields::{is_payload_ours, times_taken},
    found::{create_account, create_binding, overwrite, put_secret, somebody},
    right,
    server::{Key, secret_key},
    world::World,
    written::{CLIENTS, Field, Spec, TENANTS, written},
};

impl World {
    pub(crate) fn disturb(&mut self, disturbance: &Disturbance) {
        match disturbance {
            Disturbance::DeleteSecret(slot) => self.replace_secret(*slot, Shape::Absent),
            Disturbance::EditSecret(slot) => {
                self.edit_secret(*slot, |secret| overwrite(secret, "kubectl-edit"));
            }
            Disturbance::EditTimes(slot, ahead) => {
                let far = later(self.clock.right(), *ahead).to_string();
                self.edit_secret(*slot, |secret| edit_times(secret, &far));
            }
            Disturbance::Unlabel(slot) => self.edit_secret(*slot, |secret| secret.metadata.labels = None),
            Disturbance::Orphan(slot) => {
                self.edit_secret(*slot, |secret| secret.metadata.owner_references = None);
            }
            Disturbance::Steal(slot) => {
                self.edit_secret(*slot, |secret| {
                    secret.metadata.owner_references = Some(vec![somebody()]);
                });
            }
            Disturbance::Freeze(slot) => self.edit_secret(*slot, |secret| secret.immutable = Some(true)),
            Disturbance::PutForeign(slot) => {
                self.replace_secret(*slot, Shape::ForeignWithoutLabel);
                // No watch shows it. A binding that needs nothing meets it at its next event, which is this one.
                let (leader, now) = (self.leader(), self.clock.monotonic());
                self.processes[leader].wake(*slot, now);
            }
            Disturbance::PeerWrites(slot) => self.replace_secret(*slot, Shape::Peers { is_valid: true }),
            Disturbance::PeerReturns(slot) => {
                self.returned.insert(*slot);
                self.finalize(*slot, finalizer::PEERS);
            }
            Disturbance::Finalize(slot) => self.finalize(*slot, "example.com/keep"),
            Disturbance::Unlink(key) => self.edit_account(key, |account| {
                let entries = account.image_pull_secrets.iter_mut();
                entries.for_each(|entries| entries.retain(|entry| !entry.name.contains("acr")));
            }),
            Disturbance::ForgetRecord(key) => self.edit_account(key, |account| {
                account.annotations_mut().remove(RECORD_ANNOTATION);
            }),
            Disturbance::Reverse(key) => self.edit_account(key, |account| {
                let entries = account.image_pull_secrets.iter_mut();
                entries.for_each(|entries| entries.reverse());
            }),
            Disturbance::ListForeign(key, name) => self.edit_account(key, |account| {
                let name = (*name).to_owned();
                let entries = account.image_pull_secrets.get_or_insert_default();
                entries.insert(0, LocalObjectReference { name });
            }),
            Disturbance::DeleteAccount(key) => {
                self.server.objects.accounts.remove(key);
            }
            Disturbance::CreateAccount(key, account) => create_account(self, key, account),
            Disturbance::Annotate(key, is_on) => {
                self.annotate(key, CLIENT_ID_ANNOTATION, is_on.then_some(CLIENTS[1]));
            }
            Disturbance::Edit(slot, spec) => self.edit_spec(*slot, spec),
            Disturbance::Change(change) => {
                self.change(*change);
            }
            Disturbance::DeleteBinding(slot) => {
                let binding = self.server.objects.bindings.remove(slot);
                self.server
                    .deleted
                    .extend(binding.and_then(|binding| binding.uid()));
            }
            Disturbance::CreateBinding(slot, spec) => {
                if !self.server.objects.bindings.contains_key(slot) {
                    create_binding(self, *slot, spec);
                }
            }
            Disturbance::Recreate(slot) => {
                let uid = self.server.next();
                // Before the Secret went with the first one.
                self.edit_binding(*slot, |binding| {
                    binding.metadata.uid = Some(uid);
                    binding.status = None;
                });
            }
            Disturbance::Request(slot, value) => self.edit_binding(*slot, |binding| {
                binding
                    .annotations_mut()
                    .insert(REFRESH_REQUESTED.to_owned(), value.to_string());
            }),
            Disturbance::Azure(mood) => self.broker.mood = *mood,
            Disturbance::Faults(faults) => self.faults.extend(faults),
            Disturbance::Nothing => {}
            Disturbance::Process(fate) => self.befall(*fate),
            Disturbance::Depose {
                slot,
                cause,
                meanwhile,
                after,
            } => {
                self.disturb(cause);
                self.depose(*slot, *after);
                self.run_for(*after / 2);
                self.disturb(meanwhile);
            }
        }
        self.publish();
    }

    /// Somebody changes one thing that a binding, or the ServiceAccount of its identity, says. Which binding it was.
    pub(crate) fn change(&mut self, change: Change) -> Option<usize> {
        let count = self.server.objects.bindings.len();
        let slot = *self
            .server
            .objects
            .bindings
            .keys()
            .nth(change.binding.checked_rem(count)?)?;
        let (api, _name, namespace) = place(slot);
        let spec = self.specs[&slot].clone();
        let fields = spec.fields(api);
        let field = fields[change.field % fields.len()];
        let account = self.server.objects.bindings[&slot].identity_account();
        let account = account.map(|name| (namespace.to_owned(), name.to_owned()));
        match (field, account) {
            (Field::ClientAnnotation, Some(key)) => {
                self.turn_annotation(&key, CLIENT_ID_ANNOTATION, CLIENTS);
            }
            (Field::TenantAnnotation, Some(key)) => {
                self.turn_annotation(&key, TENANT_ID_ANNOTATION, TENANTS);
            }
            (field, _) => self.edit_spec(slot, &spec.changed(api, field)),
        }
        self.publish();
        Some(slot)
    }

    /// Somebody undoes what was written of this binding's Secret, or of the link to it. False if nothing was.
    pub(crate) fn undo(&mut self, slot: usize, is_link: bool) -> bool {
        let key = right::first_account(self, slot);
        let (objects, (_namespace, secret_name)) = (&self.server.objects, secret_key(slot));
        let account = objects.accounts.get(&key);
        let is_linked = account.is_some_and(|account| links::has(account, &secret_name));
        let secret = objects.secrets.get(&secret_key(slot));
        let is_stored = secret.is_some_and(is_payload_ours);
        let (is_written, disturbance) = if is_link {
            (is_linked, Disturbance::Unlink(key))
        } else {
            (is_stored, Disturbance::EditSecret(slot))
        };
        if is_written {
            self.disturb(&disturbance);
        }
        is_written
    }

    fn turn_annotation(&mut self, key: &Key, annotation: &str, values: [&str; 2]) {
        let account = self.server.objects.accounts.get(key);
        let value = account.and_then(|account| account.annotations().get(annotation));
        let is_first = value.is_some_and(|value| value == values[0]);
        self.annotate(key, annotation, Some(values[usize::from(is_first)]));
    }

    fn annotate(&mut self, key: &Key, annotation: &str, value: Option<&str>) {
        self.edit_account(key, |account| {
            let annotations = account.annotations_mut();
            annotations.remove(annotation);
            annotations.extend(value.map(|value| (annotation.to_owned(), value.to_owned())));
        });
    }

    fn edit_secret(&mut self, slot: usize, edit: impl FnOnce(&mut Secret)) {
        let version = self.server.next();
        if let Some(secret) = self.server.objects.secrets.get_mut(&secret_key(slot)) {
            edit(secret);
            secret.metadata.resource_version = Some(version);
        }
    }

    fn replace_secret(&mut self, slot: usize, shape: Shape) {
        if self.server.objects.bindings.contains_key(&slot) {
            put_secret(self, slot, shape);
        }
    }

    fn edit_account(&mut self, key: &Key, edit: impl FnOnce(&mut ServiceAccount)) {
        let version = self.server.next();
        if let Some(account) = self.server.objects.accounts.get_mut(key) {
            edit(account);
            account.metadata.resource_version = Some(version);
        }
    }

    fn edit_binding(&mut self, slot: usize, edit: impl FnOnce(&mut Binding)) {
        let version = self.server.next();
        if let Some(binding) = self.server.objects.bindings.get_mut(&slot) {
            edit(binding);
            binding.metadata.resource_version = Some(version);
        }
    }

    fn finalize(&mut self, slot: usize, finalizer: &str) {
        self.edit_binding(slot, |binding| {
            let finalizers = binding.metadata.finalizers.get_or_insert_default();
            finalizers.retain(|name| name != finalizer);
            finalizers.push(finalizer.to_owned());
        });
    }

    fn edit_spec(&mut self, slot: usize, spec: &Spec) {
        let (api, name, _namespace) = place(slot);
        self.specs.insert(slot, spec.clone());
        self.edit_binding(slot, |binding| {
            let spec = written(api, name, spec).spec;
            if spec != binding.spec {
                binding.spec = spec;
                binding.metadata.generation = binding.metadata.generation.map(|generation| generation + 1);
            }
        });
    }
}

fn edit_times(secret: &mut Secret, to: &str) {
    if is_payload_ours(secret) {
        let annotations = secret.annotations_mut();
        annotations.insert("acr.microsoft.com/token.expiry".to_owned(), to.to_owned());
        annotations.insert("acrpull.microsoft.com/refresh-at".to_owned(), to.to_owned());
        secret.metadata.managed_fields = Some(times_taken("kubectl-annotate"));
    }
}
