//! What others do between the passes, and what befalls the process. Each change wakes whom a watch would wake.

use k8s_openapi::api::core::v1::{LocalObjectReference, Secret, ServiceAccount};
use kube::ResourceExt as _;
use syncer::{
    finalizer, links::RECORD_ANNOTATION, pull_secret::REFRESH_REQUESTED, schedule::later,
    wanted::CLIENT_ID_ANNOTATION,
};

use crate::{
    cases::{Disturbance, Shape, Spec, place},
    found::{SCOPES, create_account, create_binding, overwrite, put_secret, somebody, written},
    right,
    server::{Key, secret_key, times_taken},
    world::World,
};

impl World {
    pub(crate) fn disturb(&mut self, disturbance: &Disturbance) {
        match disturbance {
            Disturbance::Nothing => {}
            Disturbance::DeleteSecret(slot) => self.replace_secret(*slot, Shape::Absent),
            Disturbance::EditSecret(slot) => {
                self.edit_secret(*slot, |secret| overwrite(secret, "kubectl-edit"));
            }
            Disturbance::EditTimes(slot) => self.edit_secret(*slot, |secret| {
                if !right::is_written_by_us(secret) {
                    return;
                }
                let far = "2099-01-01T00:00:00Z".to_owned();
                let annotations = secret.metadata.annotations.get_or_insert_default();
                annotations.insert("acr.microsoft.com/token.expiry".to_owned(), far.clone());
                annotations.insert("acrpull.microsoft.com/refresh-at".to_owned(), far);
                secret.metadata.managed_fields = Some(times_taken("kubectl-annotate"));
            }),
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
                if self.server.objects.bindings.contains_key(slot) {
                    self.wake_for(*slot);
                }
            }
            Disturbance::PeerWrites(slot) => self.replace_secret(*slot, Shape::Peers { is_valid: true }),
            Disturbance::PeerReturns(slot) => self.edit_binding(*slot, |binding| {
                binding.metadata.finalizers = Some(vec![finalizer::PEERS.to_owned()]);
            }),
            Disturbance::Unlink(key) => self.edit_account(key, |account| {
                let entries = account.image_pull_secrets.iter_mut();
                entries.for_each(|entries| entries.retain(|entry| !entry.name.contains("acr")));
            }),
            Disturbance::ForgetRecord(key) => self.edit_account(key, |account| {
                account.annotations_mut().remove(RECORD_ANNOTATION);
            }),
            Disturbance::Reverse(key) => self.edit_account(key, |account| {
                account
                    .image_pull_secrets
                    .iter_mut()
                    .for_each(|entries| entries.reverse());
            }),
            Disturbance::ListForeign(key, name) => self.edit_account(key, |account| {
                let name = (*name).to_owned();
                let entries = account.image_pull_secrets.get_or_insert_default();
                entries.insert(0, LocalObjectReference { name });
            }),
            Disturbance::DeleteAccount(key) => {
                self.server.objects.accounts.remove(key);
                self.wake_for_account(key);
            }
            Disturbance::CreateAccount(key, account) => {
                create_account(self, key, account);
                self.wake_for_account(key);
            }
            Disturbance::Annotate(key, is_on) => self.edit_account(key, |account| {
                let annotations = account.annotations_mut();
                annotations.remove(CLIENT_ID_ANNOTATION);
                if *is_on {
                    let client = "33333333-3333-3333-3333-000000000002";
                    annotations.insert(CLIENT_ID_ANNOTATION.to_owned(), client.to_owned());
                }
            }),
            Disturbance::Edit(slot, spec) => self.edit_spec(*slot, spec),
            Disturbance::Rescope(slot) => self.edit_binding(*slot, |binding| {
                let scope = &mut binding.spec.acr.scope;
                SCOPES[usize::from(scope == SCOPES[0])].clone_into(scope);
                binding.metadata.generation = binding.metadata.generation.map(|generation| generation + 1);
            }),
            Disturbance::DeleteBinding(slot) => self.delete_binding(*slot),
            Disturbance::CreateBinding(slot, spec) => {
                if !self.server.objects.bindings.contains_key(slot) {
                    create_binding(self, *slot, spec);
                    self.wake_for(*slot);
                }
            }
            Disturbance::Recreate(slot) => {
                let uid = self.server.objects.next();
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
            Disturbance::Restart => self.restart(),
            Disturbance::ClockStep(by) => self.now = later(self.now, *by),
            Disturbance::Azure(mood) => self.broker.mood = *mood,
            Disturbance::Faults(faults) => self.server.faults.extend(faults),
        }
    }

    /// Another process takes over. It asks for nothing that is still good.
    fn restart(&mut self) {
        let slots: Vec<_> = self.server.objects.bindings.keys().copied().collect();
        let served: Vec<_> = slots
            .into_iter()
            .filter(|slot| right::is_served(self, *slot))
            .collect();
        self.forget();
        self.wake_all();
        for slot in served {
            let asked = self.broker.questions;
            self.look_at(slot);
            assert_eq!(
                self.broker.questions, asked,
                "binding {slot} was served, and is asked for after a restart"
            );
        }
    }

    fn edit_secret(&mut self, slot: usize, edit: impl FnOnce(&mut Secret)) {
        let Some(key) = self.server.objects.bindings.get(&slot).map(secret_key) else {
            return;
        };
        let version = self.server.objects.next();
        let Some(secret) = self.server.objects.secrets.get_mut(&key) else {
            return;
        };
        let before = secret.clone();
        edit(secret);
        secret.metadata.resource_version = Some(version);
        let after = secret.clone();
        self.wake_for_secret(Some(&before), Some(&after));
    }

    fn replace_secret(&mut self, slot: usize, shape: Shape) {
        let Some(key) = self.server.objects.bindings.get(&slot).map(secret_key) else {
            return;
        };
        let before = self.server.objects.secrets.get(&key).cloned();
        put_secret(self, slot, shape);
        let after = self.server.objects.secrets.get(&key).cloned();
        self.wake_for_secret(before.as_ref(), None);
        self.wake_for_secret(None, after.as_ref());
    }

    fn edit_account(&mut self, key: &Key, edit: impl FnOnce(&mut ServiceAccount)) {
        let version = self.server.objects.next();
        if let Some(account) = self.server.objects.accounts.get_mut(key) {
            edit(account);
            account.metadata.resource_version = Some(version);
            self.wake_for_account(key);
        }
    }

    fn edit_binding(&mut self, slot: usize, edit: impl FnOnce(&mut syncer::binding::Binding)) {
        let version = self.server.objects.next();
        if let Some(binding) = self.server.objects.bindings.get_mut(&slot) {
            edit(binding);
            binding.metadata.resource_version = Some(version);
            self.wake_for(slot);
        }
    }

    fn edit_spec(&mut self, slot: usize, spec: &Spec) {
        let (api, name, _namespace) = place(slot);
        self.edit_binding(slot, |binding| {
            let spec = written(api, name, spec).spec;
            if spec != binding.spec {
                binding.spec = spec;
                binding.metadata.generation = binding.metadata.generation.map(|generation| generation + 1);
            }
        });
    }

    /// It goes, and by its owner reference the Secret.
    fn delete_binding(&mut self, slot: usize) {
        let Some(binding) = self.server.objects.bindings.remove(&slot) else {
            return;
        };
        let key = secret_key(&binding);
        self.memory.forget(&binding.key());
        let secrets = &mut self.server.objects.secrets;
        secrets.retain(|other, secret| {
            let owners = secret.metadata.owner_references.as_deref().unwrap_or_default();
            *other != key || !matches!(owners, [owner] if Some(&owner.uid) == binding.metadata.uid.as_ref())
        });
        self.wake_for_binding(slot, &key);
    }

    fn wake_for(&mut self, slot: usize) {
        let key = secret_key(&self.server.objects.bindings[&slot]);
        self.wake_for_binding(slot, &key);
    }
}
