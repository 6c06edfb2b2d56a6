//! Keeps the links of ServiceAccounts: one writer per ServiceAccount at a time, and each write makes all changes
//! that are due. Fifty bindings that appear at once on one ServiceAccount cost a write or two, not fifty conflicts.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    runtime::reflector::{ObjectRef, Store},
};

use super::{Cleared, change, record, standing};
use crate::{
    crd::AcrPullBinding,
    kube_calls::{KubeCalls, KubeError, Verb},
    memory::Echo,
    pull_secret::{self, FIELD_MANAGER},
};

/// Writes that lose against somebody else's are repeated on the new state this often; then the schedule takes over.
const MAX_CONFLICTS: usize = 5;

/// What became of a ServiceAccount's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    /// They are as they should be.
    Settled,
    /// The ServiceAccount does not exist.
    NoAccount,
}

/// Keeps the links. Shared by all passes.
#[derive(Debug)]
pub struct LinkKeeper {
    accounts: Store<ServiceAccount>,
    bindings: Store<AcrPullBinding>,
    calls: Arc<KubeCalls>,
    cleared: Mutex<Cleared>,
    written: Mutex<HashMap<ObjectRef<ServiceAccount>, Echo<Arc<ServiceAccount>>>>,
    turns: Mutex<HashMap<ObjectRef<ServiceAccount>, Arc<tokio::sync::Mutex<()>>>>,
}

impl LinkKeeper {
    /// A keeper that knows the world from these stores.
    pub fn new(
        accounts: Store<ServiceAccount>,
        bindings: Store<AcrPullBinding>,
        calls: Arc<KubeCalls>,
    ) -> Self {
        Self {
            accounts,
            bindings,
            calls,
            cleared: Mutex::default(),
            written: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    /// The ServiceAccount as it is now: as watched, or as we last wrote it if the watch lags behind.
    pub fn account(&self, account: &ObjectRef<ServiceAccount>) -> Option<Arc<ServiceAccount>> {
        let seen = self.accounts.get(account)?;
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let version = seen.resource_version().unwrap_or_default();
        let newest = Echo::newer(written.get(account), &version, Arc::clone(&seen));
        if Arc::ptr_eq(&newest, &seen) {
            written.remove(account);
        }
        Some(newest)
    }

    /// Allows the Secret to be linked: it is known not to be somebody else's.
    pub fn clear(&self, account: &ObjectRef<ServiceAccount>, secret_name: &str) {
        let mut cleared = self.cleared.lock().unwrap_or_else(PoisonError::into_inner);
        cleared
            .entry(key(account))
            .or_default()
            .insert(secret_name.to_owned());
    }

    /// Whether there may be anything to do for this ServiceAccount.
    pub fn concerns(&self, account: &ServiceAccount) -> bool {
        !record(account).is_empty() || {
            let cleared = self.cleared.lock().unwrap_or_else(PoisonError::into_inner);
            cleared.contains_key(&(account.namespace().unwrap_or_default(), account.name_any()))
        }
    }

    /// Brings the links of a ServiceAccount to what they should be.
    ///
    /// # Errors
    /// Kubernetes refused or failed, or somebody else kept winning the race for the ServiceAccount.
    ///
    /// # Cancel safety
    /// Cancel safe: a write that was sent may take effect, and the next pass sees it.
    pub async fn settle(
        &self,
        client: &Client,
        account: &ObjectRef<ServiceAccount>,
    ) -> Result<Linked, KubeError> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(account.clone()).or_default())
        };
        let result = {
            let _mine = turn.lock().await;
            self.settle_alone(client, account).await
        };
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Two owners are the map and this pass: nobody waits for the turn.
        if Arc::strong_count(&turn) <= 2 {
            turns.remove(account);
        }
        result
    }

    async fn settle_alone(
        &self,
        client: &Client,
        account: &ObjectRef<ServiceAccount>,
    ) -> Result<Linked, KubeError> {
        let (namespace, name) = key(account);
        let api: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
        let mut conflict = None;
        for _attempt in 0..MAX_CONFLICTS {
            let current = match &conflict {
                None => self.account(account),
                Some(_lost) => self.read_live(&api, &name).await?,
            };
            let Some(current) = current else {
                return Ok(Linked::NoAccount);
            };
            let (wanted, known) = self.wanted(account);
            let suspects: BTreeSet<_> = record(&current).difference(&known).cloned().collect();
            let gone = if suspects.is_empty() {
                suspects
            } else {
                let standing = standing::behind(client, &self.calls, &namespace, &name).await?;
                suspects.difference(&standing).cloned().collect()
            };
            let Some(links) = change(&current, &wanted, &gone) else {
                return Ok(Linked::Settled);
            };
            let patch = Patch::Merge(links.merge_patch(current.resource_version().as_deref()));
            let params = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            match self
                .calls
                .call(Verb::Patch, "serviceaccounts", api.patch(&name, &params, &patch))
                .await
            {
                Ok(mut after) => {
                    super::slim(&mut after);
                    tracing::info!(
                        serviceaccount.namespace = namespace,
                        serviceaccount.name = name,
                        removed = gone.len(),
                        "links written"
                    );
                    self.remember(account, &current, after);
                    return Ok(Linked::Settled);
                }
                Err(error) if error.is_not_found() => return Ok(Linked::NoAccount),
                Err(error) if error.is_conflict() => conflict = Some(error),
                Err(error) => return Err(error),
            }
        }
        conflict.map_or(Ok(Linked::Settled), Err)
    }

    /// The names that are to be linked, and those that bindings in the store want linked, cleared or not.
    fn wanted(&self, account: &ObjectRef<ServiceAccount>) -> (BTreeSet<String>, BTreeSet<String>) {
        let (namespace, name) = key(account);
        let known: BTreeSet<String> = self
            .bindings
            .state_filter(|binding| {
                binding.spec.service_account_name == name
                    && binding.metadata.namespace.as_deref() == Some(namespace.as_str())
                    && binding.metadata.deletion_timestamp.is_none()
            })
            .iter()
            .map(|binding| pull_secret::name_for(&binding.name_any()))
            .collect();
        let mut cleared = self.cleared.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(names) = cleared.get_mut(&(namespace.clone(), name.clone())) else {
            return (BTreeSet::new(), known);
        };
        names.retain(|name| known.contains(name));
        let wanted = names.clone();
        if wanted.is_empty() {
            cleared.remove(&(namespace, name));
        }
        (wanted, known)
    }

    /// One live read. By list, because the syncer's role has no right to get ServiceAccounts.
    async fn read_live(
        &self,
        api: &Api<ServiceAccount>,
        name: &str,
    ) -> Result<Option<Arc<ServiceAccount>>, KubeError> {
        let one = ListParams::default()
            .fields(&format!("metadata.name={name}"))
            .limit(1);
        let list = self
            .calls
            .call(Verb::List, "serviceaccounts", api.list(&one))
            .await?;
        Ok(list.items.into_iter().next().map(Arc::new))
    }

    fn remember(&self, account: &ObjectRef<ServiceAccount>, before: &ServiceAccount, after: ServiceAccount) {
        let seen = self
            .accounts
            .get(account)
            .and_then(|seen| seen.resource_version());
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let over = before.resource_version().into_iter().chain(seen);
        let echo = Echo::after(written.get(account), over, Arc::new(after));
        written.insert(account.clone(), echo);
    }
}

fn key(account: &ObjectRef<ServiceAccount>) -> (String, String) {
    (
        account.namespace.clone().unwrap_or_default(),
        account.name.clone(),
    )
}
