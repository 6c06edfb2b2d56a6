//! The three watches. Each fills a store and says, for every change, what is to be looked at again. Decides nothing.
//!
//! Bindings are filtered by the operator's selector, Secrets by our label and as metadata only: this process never
//! holds the content of a Secret that it did not write.

use std::{fmt::Debug, hash::Hash, sync::Arc};

use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use runtime::{Shutdown, Tasks, admin::Readiness, error_chain::ErrorChain};
use serde::de::DeserializeOwned;

use crate::{context::Context, crd::AcrPullBinding, links, pull_secret};

/// Objects per page of a list, as `kubectl` has it: bounds what one answer holds in memory.
const PAGE: u32 = 500;
/// Wakes that wait for the queue of the controller; it takes them at once, this bounds a burst.
const WAKES: usize = 1024;
/// The largest annotation of most objects, and never read here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The stores that the watches fill.
pub struct Stores {
    /// Bindings that the selector matches.
    pub bindings: Store<AcrPullBinding>,
    /// All ServiceAccounts, slimmed.
    pub accounts: Store<ServiceAccount>,
    /// Secrets with our label.
    pub secrets: Store<PartialObjectMeta<Secret>>,
}

/// The other ends of the stores.
pub struct Writers {
    bindings: Writer<AcrPullBinding>,
    accounts: Writer<ServiceAccount>,
    secrets: Writer<PartialObjectMeta<Secret>>,
}

/// What is to be looked at again.
pub struct Wakes {
    /// Bindings.
    pub bindings: mpsc::Receiver<ObjectRef<AcrPullBinding>>,
    /// ServiceAccounts, for their links.
    pub accounts: mpsc::Receiver<ObjectRef<ServiceAccount>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wake {
    Binding(ObjectRef<AcrPullBinding>),
    Account(ObjectRef<ServiceAccount>),
}

/// What happened to an object.
enum Change<'a, K> {
    /// It is new or different.
    Applied(&'a K),
    /// It is gone.
    Gone(&'a K),
    /// The store was read anew; what went missing meanwhile is gone without a change of its own.
    Resynced,
}

/// Decides nothing about objects, only whom they concern.
struct Router {
    context: Arc<Context>,
    bindings: Store<AcrPullBinding>,
    accounts: Store<ServiceAccount>,
}

#[derive(Clone)]
struct Queues {
    bindings: mpsc::Sender<ObjectRef<AcrPullBinding>>,
    accounts: mpsc::Sender<ObjectRef<ServiceAccount>>,
}

/// Empty stores.
pub fn stores() -> (Stores, Writers) {
    let (bindings, bindings_writer) = reflector::store();
    let (accounts, accounts_writer) = reflector::store();
    let (secrets, secrets_writer) = reflector::store();
    (
        Stores {
            bindings,
            accounts,
            secrets,
        },
        Writers {
            bindings: bindings_writer,
            accounts: accounts_writer,
            secrets: secrets_writer,
        },
    )
}

/// Starts the watches. The process is ready when each has delivered its first complete state.
pub fn spawn(
    tasks: &Tasks,
    readiness: &Readiness,
    context: &Arc<Context>,
    stores: &Stores,
    writers: Writers,
    selector: Option<&str>,
) -> Wakes {
    let client = || context.client.clone();
    let (bindings_tx, bindings_rx) = mpsc::channel(WAKES);
    let (accounts_tx, accounts_rx) = mpsc::channel(WAKES);
    let queues = Queues {
        bindings: bindings_tx,
        accounts: accounts_tx,
    };
    let router = Arc::new(Router {
        context: Arc::clone(context),
        bindings: stores.bindings.clone(),
        accounts: stores.accounts.clone(),
    });
    let all = watcher::Config::default().page_size(PAGE);
    let selected = selector.map_or_else(|| all.clone(), |selector| all.clone().labels(selector));

    let (gate, shutdown) = (readiness.gate("watch of bindings"), context.shutdown.clone());
    let route = {
        let router = Arc::clone(&router);
        move |change: &Change<'_, _>| router.binding(change)
    };
    let events = slimmed(client(), selected, |binding: &mut AcrPullBinding| {
        binding.metadata.managed_fields = None;
        binding.annotations_mut().remove(LAST_APPLIED);
    });
    tasks.spawn(
        "watch bindings",
        watch(events, writers.bindings, gate, route, queues.clone(), shutdown),
    );

    let (gate, shutdown) = (
        readiness.gate("watch of ServiceAccounts"),
        context.shutdown.clone(),
    );
    let route = {
        let router = Arc::clone(&router);
        move |change: &Change<'_, _>| router.account(change)
    };
    let events = slimmed(client(), all.clone(), links::slim);
    tasks.spawn(
        "watch ServiceAccounts",
        watch(events, writers.accounts, gate, route, queues.clone(), shutdown),
    );

    let (gate, shutdown) = (readiness.gate("watch of Secrets"), context.shutdown.clone());
    let route = move |change: &Change<'_, _>| router.secret(change);
    let labelled = all.labels(pull_secret::BINDING_LABEL);
    let events = slimmed(client(), labelled, |secret: &mut PartialObjectMeta<Secret>| {
        pull_secret::slim(&mut secret.metadata);
    });
    tasks.spawn(
        "watch Secrets",
        watch(events, writers.secrets, gate, route, queues, shutdown),
    );
    Wakes {
        bindings: bindings_rx,
        accounts: accounts_rx,
    }
}

fn slimmed<K>(
    client: Client,
    config: watcher::Config,
    slim: impl FnMut(&mut K) + Send + 'static,
) -> impl futures::Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(Api::<K>::all(client), config)
        .default_backoff()
        .modify(slim)
}

async fn watch<K>(
    events: impl futures::Stream<Item = watcher::Result<Event<K>>> + Send,
    writer: Writer<K>,
    gate: runtime::admin::Gate,
    route: impl Fn(&Change<'_, K>) -> Vec<Wake> + Send,
    mut queues: Queues,
    shutdown: Shutdown,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let events = reflector::reflector(writer, events).take_until(shutdown.started());
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let wakes = match &event {
            Ok(Event::Apply(object)) => route(&Change::Applied(object)),
            Ok(Event::Delete(object)) => route(&Change::Gone(object)),
            Ok(Event::InitDone) => {
                gate.open();
                route(&Change::Resynced)
            }
            Ok(Event::Init | Event::InitApply(_)) => Vec::new(),
            Err(error) => {
                tracing::warn!(error = %ErrorChain(error), "a watch failed and is started again");
                Vec::new()
            }
        };
        for wake in wakes {
            let sent = match wake {
                Wake::Binding(binding) => queues.bindings.send(binding).await,
                Wake::Account(account) => queues.accounts.send(account).await,
            };
            // The controllers end first when the process ends.
            if sent.is_err() {
                return;
            }
        }
    }
}

impl Router {
    fn binding(&self, change: &Change<'_, AcrPullBinding>) -> Vec<Wake> {
        match change {
            Change::Applied(binding) => {
                let own = ObjectRef::from_obj(*binding);
                let mut wakes =
                    self.accounts_to_unlink(binding, binding.metadata.deletion_timestamp.is_none());
                wakes.push(Wake::Binding(own));
                wakes
            }
            Change::Gone(binding) => {
                self.context.memory.forget(&ObjectRef::from_obj(*binding));
                self.accounts_to_unlink(binding, false)
            }
            Change::Resynced => {
                self.context
                    .memory
                    .retain(|binding| self.bindings.get(binding).is_some());
                self.everything()
            }
        }
    }

    fn account(&self, change: &Change<'_, ServiceAccount>) -> Vec<Wake> {
        let (Change::Applied(account) | Change::Gone(account)) = change else {
            return self.everything();
        };
        let name = account.name_any();
        let concerned = self.bindings.state_filter(|binding| {
            binding.metadata.namespace == account.metadata.namespace
                && (binding.spec.service_account_name == name
                    || binding.spec.identity_account() == Some(&name))
        });
        let mut wakes: Vec<_> = concerned
            .iter()
            .map(|binding| Wake::Binding(ObjectRef::from_obj(binding.as_ref())))
            .collect();
        if self.context.links.concerns(account) {
            wakes.push(Wake::Account(ObjectRef::from_obj(*account)));
        }
        wakes
    }

    fn secret(&self, change: &Change<'_, PartialObjectMeta<Secret>>) -> Vec<Wake> {
        let (Change::Applied(secret) | Change::Gone(secret)) = change else {
            return self.everything();
        };
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        let binding = pull_secret::binding_of(&secret.metadata);
        binding
            .map(|name| Wake::Binding(ObjectRef::new(name).within(namespace)))
            .into_iter()
            .collect()
    }

    /// ServiceAccounts that record a link to the binding's Secret and should not, or no longer.
    fn accounts_to_unlink(&self, binding: &AcrPullBinding, exists: bool) -> Vec<Wake> {
        let secret_name = pull_secret::name_for(&binding.name_any());
        let recorded = self.accounts.state_filter(|account| {
            account.metadata.namespace == binding.metadata.namespace
                && !(exists && account.metadata.name.as_ref() == Some(&binding.spec.service_account_name))
                && links::record(account).contains(&secret_name)
        });
        recorded
            .iter()
            .map(|account| Wake::Account(ObjectRef::from_obj(account.as_ref())))
            .collect()
    }

    fn everything(&self) -> Vec<Wake> {
        let bindings = self.bindings.state();
        let bindings = bindings
            .iter()
            .map(|binding| Wake::Binding(ObjectRef::from_obj(binding.as_ref())));
        let accounts = self
            .accounts
            .state_filter(|account| !links::record(account).is_empty());
        let accounts = accounts
            .iter()
            .map(|account| Wake::Account(ObjectRef::from_obj(account.as_ref())));
        bindings.chain(accounts).collect()
    }
}
