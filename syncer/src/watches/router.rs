//! Whom a change concerns. Looks at stores only.
//!
//! Most changes are echoes of our own writes, and one ServiceAccount may have a thousand bindings: what did not
//! change for a binding does not wake it.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{reflector::ObjectRef, watcher::Event},
};

use crate::{
    binding::{ApiVersion, Binding, BindingRef, Bindings},
    finalizer,
    indexed::Indexed,
    links,
    memory::Memory,
    news::News,
    pull_secret::{self, REFRESH_REQUESTED},
    wanted::{CLIENT_ID_ANNOTATION, TENANT_ID_ANNOTATION},
};

/// What is to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// This binding.
    Binding(BindingRef),
    /// The links of this ServiceAccount.
    Account(ObjectRef<ServiceAccount>),
}

/// What happened to an object.
pub enum Change<'a, K> {
    /// It is new or different.
    Applied {
        /// As the store had it.
        before: Option<Arc<K>>,
        /// As it is now.
        after: &'a K,
    },
    /// It is gone, or does not decode any more.
    Gone(&'a ObjectMeta),
    /// The store was read anew; what went missing meanwhile is gone without a change of its own.
    Resynced,
}

impl<'a, K: Resource> Change<'a, K> {
    /// What an event of a watch says happened. `before` is asked for an object as the store has it, so before the store is
    /// told.
    pub fn of(event: &'a Event<K>, before: impl FnOnce(&K) -> Option<Arc<K>>) -> Option<Self> {
        match event {
            Event::Apply(after) => Some(Self::Applied {
                before: before(after),
                after,
            }),
            Event::Delete(object) => Some(Self::Gone(object.meta())),
            Event::InitDone => Some(Self::Resynced),
            Event::Init | Event::InitApply(_) => None,
        }
    }
}

/// Knows who depends on what.
pub struct Router {
    memory: Arc<Memory>,
    news: Arc<News>,
    bindings: Bindings,
    accounts: Indexed<ServiceAccount>,
}

impl Router {
    /// One that knows the world from these stores, and tells those who wait for news.
    pub fn new(
        memory: Arc<Memory>,
        news: Arc<News>,
        bindings: Bindings,
        accounts: Indexed<ServiceAccount>,
    ) -> Self {
        Self {
            memory,
            news,
            bindings,
            accounts,
        }
    }

    /// Whom the change of a binding concerns. What is remembered of one that is gone is forgotten.
    pub fn binding(&self, api: ApiVersion, change: &Change<'_, Binding>) -> Vec<Wake> {
        match change {
            // Only its status, or something that nobody here reads.
            Change::Applied {
                before: Some(before),
                after,
            } if relevant(before) == relevant(after) => Vec::new(),
            Change::Applied { after, .. } => {
                let metadata = &after.metadata;
                let targets = match metadata.deletion_timestamp {
                    None => after.spec.accounts(),
                    Some(_) => Vec::new(),
                };
                let mut wakes = self.accounts_to_unlink(api, metadata, &targets);
                wakes.push(self.wake(after.key()));
                wakes
            }
            Change::Gone(metadata) => {
                let name = metadata.name.as_deref().unwrap_or_default();
                let namespace = metadata.namespace.as_deref().unwrap_or_default();
                let gone = BindingRef::new_with(name, api).within(namespace);
                self.memory.forget(&gone);
                self.news.tell(&gone);
                self.accounts_to_unlink(api, metadata, &[])
            }
            Change::Resynced => {
                self.memory
                    .retain(|binding| binding.dyntype != api || self.bindings.get(binding).is_some());
                // Those that are gone among them.
                self.news.tell_all();
                self.all_of(&[api])
            }
        }
    }

    /// Whom the change of a ServiceAccount concerns.
    pub fn account(&self, change: &Change<'_, ServiceAccount>) -> Vec<Wake> {
        let (before, after, metadata) = match change {
            Change::Applied { before, after } => (before.as_deref(), Some(*after), &after.metadata),
            Change::Gone(metadata) => (None, None, *metadata),
            Change::Resynced => return self.all_of(&ApiVersion::ALL),
        };
        let appeared_or_gone = before.is_none() || after.is_none();
        let identity_changed = appeared_or_gone || before.map(identity) != after.map(identity);
        let to_unlink = after.filter(|after| self.gained_an_orphan(before, after));
        let to_unlink = to_unlink.map(|account| Wake::Account(ObjectRef::from_obj(account)));
        let remaining = after.map(links::linked).unwrap_or_default();
        let mut lost = before.map(links::linked).unwrap_or_default();
        lost.retain(|secret_name| !remaining.contains(secret_name));
        if !identity_changed && lost.is_empty() {
            return to_unlink.into_iter().collect();
        }
        let name = metadata.name.as_deref().unwrap_or_default();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let concerned = self.bindings.in_namespace(namespace, |binding| {
            identity_changed && binding.identity_account() == Some(name)
                || binding.spec.is_for(name)
                    && (appeared_or_gone || lost.contains(&pull_secret::name_of(binding)))
        });
        let mut wakes: Vec<_> = concerned.iter().map(|binding| self.wake(binding.key())).collect();
        // One that appears with a record was restored from somewhere; what it records may be long gone.
        if let (None, Some(account)) = (before, after)
            && (!wakes.is_empty() || !links::record(account).is_empty())
        {
            wakes.push(Wake::Account(ObjectRef::from_obj(account)));
        }
        wakes.extend(to_unlink);
        wakes
    }

    /// Whether it now records a link that no binding asks for: one that went, or went elsewhere, while the link was on
    /// its way, when the ServiceAccount as it was watched did not record it yet.
    fn gained_an_orphan(&self, before: Option<&ServiceAccount>, after: &ServiceAccount) -> bool {
        let Some(before) = before else {
            return false;
        };
        let mut gained = links::record(after);
        let known = links::record(before);
        gained.retain(|secret_name| !known.contains(secret_name));
        if gained.is_empty() {
            return false;
        }
        let name = after.metadata.name.as_deref().unwrap_or_default();
        let namespace = after.metadata.namespace.as_deref().unwrap_or_default();
        let behind = self.bindings.in_namespace(namespace, |binding| {
            binding.metadata.deletion_timestamp.is_none()
                && binding.spec.is_for(name)
                && gained.contains(&pull_secret::name_of(binding))
        });
        behind.len() < gained.len()
    }

    /// Whom the change of a Secret concerns.
    pub fn secret(&self, change: &Change<'_, PartialObjectMeta<Secret>>) -> Vec<Wake> {
        let metadata = match change {
            Change::Applied { after, .. } => &after.metadata,
            Change::Gone(metadata) => *metadata,
            Change::Resynced => return self.all_of(&ApiVersion::ALL),
        };
        pull_secret::binding_of(metadata)
            .map(Wake::Binding)
            .into_iter()
            .collect()
    }

    /// A pass of the binding, and a word to the one that may be waiting.
    fn wake(&self, binding: BindingRef) -> Wake {
        self.news.tell(&binding);
        Wake::Binding(binding)
    }

    /// ServiceAccounts that record a link to the binding's Secret and should not, or no longer; all but `targets`.
    fn accounts_to_unlink(&self, api: ApiVersion, binding: &ObjectMeta, targets: &[&str]) -> Vec<Wake> {
        let secret_name = pull_secret::name_for(api, binding.name.as_deref().unwrap_or_default());
        let namespace = binding.namespace.as_deref().unwrap_or_default();
        let recorded = self.accounts.in_namespace(namespace, |account| {
            let name = account.metadata.name.as_deref().unwrap_or_default();
            !targets.contains(&name) && links::record(account).contains(&secret_name)
        });
        recorded
            .iter()
            .map(|account| Wake::Account(ObjectRef::from_obj(account.as_ref())))
            .collect()
    }

    /// All bindings of these APIs, and all ServiceAccounts that list one.
    fn all_of(&self, apis: &[ApiVersion]) -> Vec<Wake> {
        let bindings: Vec<_> = apis
            .iter()
            .flat_map(|api| self.bindings.of(*api).state())
            .collect();
        let bindings = bindings.iter().map(|binding| self.wake(binding.key()));
        let accounts = self
            .accounts
            .store()
            .state_filter(|account| !links::record(account).is_empty());
        let accounts = accounts
            .iter()
            .map(|account| Wake::Account(ObjectRef::from_obj(account.as_ref())));
        bindings.chain(accounts).collect()
    }
}

/// What a pass depends on: the object itself, its spec, a request to refresh, its end, and the peer's finalizer, which
/// says who works on it.
fn relevant(binding: &Binding) -> (Option<&String>, Option<i64>, Option<&String>, bool, bool) {
    let metadata = &binding.metadata;
    let request = binding.annotations().get(REFRESH_REQUESTED);
    (
        metadata.uid.as_ref(),
        metadata.generation,
        request,
        metadata.deletion_timestamp.is_some(),
        finalizer::is_on(metadata),
    )
}

/// What a ServiceAccount says about its identity.
fn identity(account: &ServiceAccount) -> [Option<&String>; 2] {
    [CLIENT_ID_ANNOTATION, TENANT_ID_ANNOTATION].map(|key| account.annotations().get(key))
}

#[cfg(test)]
mod tests;
