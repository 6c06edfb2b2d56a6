//! Keeps the links of ServiceAccounts: one writer per ServiceAccount at a time, and each write makes all changes
//! that are due. Fifty bindings that appear at once on one ServiceAccount cost a write or two, not fifty conflicts.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::{api::core::v1::ServiceAccount, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    runtime::reflector::ObjectRef,
};

use super::{Target, change, claimed, contests::Contests, entries, has, record, standing, unlinked};
use crate::{
    binding::Bindings,
    context::Context,
    indexed::Indexed,
    kube_calls::{KubeError, Verb},
    memory::{Echo, Memory},
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
    accounts: Indexed<ServiceAccount>,
    bindings: Bindings,
    memory: Arc<Memory>,
    written: Mutex<HashMap<ObjectRef<ServiceAccount>, Echo<Arc<ServiceAccount>>>>,
    turns: Mutex<HashMap<ObjectRef<ServiceAccount>, Arc<tokio::sync::Mutex<()>>>>,
    contests: Mutex<Contests>,
}

/// A place in the queue for a ServiceAccount. The last one that leaves it takes the queue along.
struct Place<'a> {
    keeper: &'a LinkKeeper,
    account: &'a ObjectRef<ServiceAccount>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl LinkKeeper {
    /// A keeper that knows the world from these stores.
    pub fn new(accounts: Indexed<ServiceAccount>, bindings: Bindings, memory: Arc<Memory>) -> Self {
        Self {
            accounts,
            bindings,
            memory,
            written: Mutex::default(),
            turns: Mutex::default(),
            contests: Mutex::default(),
        }
    }

    /// The ServiceAccount as it is now: as watched, or as we last wrote it if the watch lags behind.
    pub fn account(&self, account: &ObjectRef<ServiceAccount>) -> Option<Arc<ServiceAccount>> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = self.accounts.store().get(account) else {
            written.remove(account);
            return None;
        };
        let version = seen.resource_version().unwrap_or_default();
        let mut echo = written.remove(account);
        let newest = Echo::newer(&mut echo, &version, seen);
        if let Some(echo) = echo {
            written.insert(account.clone(), echo);
        }
        Some(newest)
    }

    /// The same, and whether somebody keeps removing the link to `secret_name` from it; told by the time of the binding,
    /// which is `now` at this moment of the monotonic clock.
    pub fn target(
        &self,
        account: &ObjectRef<ServiceAccount>,
        secret_name: &str,
        monotonic: Duration,
        now: Timestamp,
    ) -> Target {
        let seen = self.account(account);
        let fight = seen
            .as_ref()
            .and_then(|seen| self.contests().fight(seen, secret_name, monotonic))
            .map(|fight| fight.told_at(monotonic, now));
        Target {
            name: account.name.clone(),
            account: seen,
            fight,
        }
    }

    /// Brings the links of a ServiceAccount to what they should be; at once, if it is only for `secret_name` and another
    /// pass has linked that meanwhile. Not to be called with a worker in hand: it waits
    /// for its turn without one, so that any number of passes can wait for one write.
    ///
    /// # Errors
    /// Kubernetes refused or failed, or somebody else kept winning the race for the ServiceAccount.
    ///
    /// # Cancel safety
    /// Cancel safe: a write that was sent may take effect, and the next pass sees it.
    pub async fn settle(
        &self,
        context: &Context,
        account: &ObjectRef<ServiceAccount>,
        secret_name: Option<&str>,
    ) -> Result<Linked, KubeError> {
        self.take_turn(context, account, secret_name, None).await
    }

    /// The same, and with it removes the link to this Secret, whoever made it: unless a binding stands behind it, it is a
    /// link of the peer's whose binding is being deleted.
    ///
    /// # Errors
    /// As [`Self::settle`].
    ///
    /// # Cancel safety
    /// As [`Self::settle`].
    pub async fn unlink(
        &self,
        context: &Context,
        account: &ObjectRef<ServiceAccount>,
        left: &str,
    ) -> Result<Linked, KubeError> {
        self.take_turn(context, account, None, Some(left)).await
    }

    /// The ServiceAccounts of a namespace that list this Secret.
    pub fn listing(&self, namespace: &str, secret_name: &str) -> Vec<ObjectRef<ServiceAccount>> {
        let accounts = self.accounts.in_namespace(namespace, |account| {
            entries(account).any(|entry| entry == secret_name)
        });
        accounts
            .iter()
            .map(|account| ObjectRef::from_obj(account.as_ref()))
            .collect()
    }

    async fn take_turn(
        &self,
        context: &Context,
        account: &ObjectRef<ServiceAccount>,
        secret_name: Option<&str>,
        left: Option<&str>,
    ) -> Result<Linked, KubeError> {
        let place = Place::take(self, account);
        let _mine = place.turn.lock().await;
        self.settle_in_turn(context, account, secret_name, left).await
    }

    async fn settle_in_turn(
        &self,
        context: &Context,
        account: &ObjectRef<ServiceAccount>,
        secret_name: Option<&str>,
        left: Option<&str>,
    ) -> Result<Linked, KubeError> {
        let Some(mut current) = self.account(account) else {
            return Ok(Linked::NoAccount);
        };
        if secret_name.is_some_and(|name| has(&current, name)) {
            return Ok(Linked::Settled);
        }
        let _worker = context.limits.first_worker().await;
        let (namespace, name) = key(account);
        let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), &namespace);
        let mut conflict = None;
        for _attempt in 0..MAX_CONFLICTS {
            if let Some(left) = left {
                current = Arc::new(claimed(&current, left));
            }
            let (mut wanted, known) = self.wanted(account);
            let mut missing = wanted.clone();
            missing.retain(|name| !has(&current, name));
            let now = context.clock.monotonic();
            let held_back = self.contests().held_back(&current, &missing, now);
            wanted.retain(|name| !held_back.contains(name));
            let suspects: BTreeSet<_> = record(&current).difference(&known).cloned().collect();
            let gone = if suspects.is_empty() {
                suspects
            } else {
                let standing = standing::behind(context, &namespace, &name).await?;
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
            let call = api.patch(&name, &params, &patch);
            // Before it is sent: afterwards the watch may show what came of it, or what somebody made of that.
            let shown = self.shown(account);
            match context.calls.call(Verb::Patch, "serviceaccounts", call).await {
                Ok(mut after) => {
                    super::slim(&mut after);
                    tracing::info!(
                        serviceaccount.namespace = namespace,
                        serviceaccount.name = name,
                        "links written"
                    );
                    unlinked::tell(&context.events, &self.bindings, &current, &gone);
                    let made = missing.difference(&held_back);
                    let mut contests = self.contests();
                    contests.wrote(&after, made, context.clock.monotonic(), rand::random());
                    contests.removed(&after, &gone);
                    drop(contests);
                    self.remember(account, [current.resource_version(), shown], after);
                    return Ok(Linked::Settled);
                }
                Err(error) if error.is_not_found() => return Ok(Linked::NoAccount),
                Err(error) if error.is_conflict() => conflict = Some(error),
                Err(error) => return Err(error),
            }
            let Some(live) = read_live(context, &api, &name).await? else {
                return Ok(Linked::NoAccount);
            };
            current = Arc::new(live);
        }
        conflict.map_or(Ok(Linked::Settled), Err)
    }

    /// The names that are to be linked, and with them those of which that is not known yet.
    fn wanted(&self, account: &ObjectRef<ServiceAccount>) -> (BTreeSet<String>, BTreeSet<String>) {
        let (namespace, name) = key(account);
        let (mut wanted, mut known) = (BTreeSet::new(), BTreeSet::new());
        for binding in self.bindings.in_namespace(&namespace, |binding| {
            binding.spec.is_for(&name) && binding.metadata.deletion_timestamp.is_none()
        }) {
            let secret_name = pull_secret::name_of(&binding);
            if self.memory.allows_link(&binding) {
                wanted.insert(secret_name.clone());
            }
            known.insert(secret_name);
        }
        (wanted, known)
    }

    /// The version that the watch shows.
    fn shown(&self, account: &ObjectRef<ServiceAccount>) -> Option<String> {
        let seen = self.accounts.store().get(account)?;
        seen.resource_version()
    }

    /// Remembers a write over these versions.
    fn remember(
        &self,
        account: &ObjectRef<ServiceAccount>,
        over: [Option<String>; 2],
        after: ServiceAccount,
    ) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let over = over.into_iter().flatten();
        let echo = Echo::after(written.get(account), over, Arc::new(after));
        // An account that is never looked at again, because its namespace is gone, leaves nothing behind.
        written.retain(|account, echo| {
            let shown = self.shown(account);
            shown.is_some_and(|shown| echo.is_over(&shown))
        });
        written.insert(account.clone(), echo);
    }

    fn contests(&self) -> MutexGuard<'_, Contests> {
        self.contests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Place<'a> {
    fn take(keeper: &'a LinkKeeper, account: &'a ObjectRef<ServiceAccount>) -> Self {
        let mut turns = keeper.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = Arc::clone(turns.entry(account.clone()).or_default());
        drop(turns);
        Self {
            keeper,
            account,
            turn,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut turns = self.keeper.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Two owners are the map and this place: nobody else waits for the turn.
        if Arc::strong_count(&self.turn) <= 2 {
            turns.remove(self.account);
        }
    }
}

/// One live read. By list, because the syncer's role has no right to get ServiceAccounts.
async fn read_live(
    context: &Context,
    api: &Api<ServiceAccount>,
    name: &str,
) -> Result<Option<ServiceAccount>, KubeError> {
    let one = ListParams::default()
        .fields(&format!("metadata.name={name}"))
        .limit(1);
    let list = context
        .calls
        .call(Verb::List, "serviceaccounts", api.list(&one))
        .await?;
    Ok(list.items.into_iter().next())
}

fn key(account: &ObjectRef<ServiceAccount>) -> (String, String) {
    (
        account.namespace.clone().unwrap_or_default(),
        account.name.clone(),
    )
}

#[cfg(test)]
mod tests;
