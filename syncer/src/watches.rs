//! The three watches. Each fills a store and hands every change to the `router`, which says what is to be looked at
//! again. Decides nothing.
//!
//! A binding that does not decode is as good as gone here, see `unreadable`; the others go on.
//!
//! Bindings are filtered by the operator's selector, Secrets by our label and as metadata only: this process never
//! holds the content of a Secret that it did not write.

mod router;
mod unreadable;

use std::{fmt::Debug, sync::Arc};

use futures::{SinkExt as _, Stream, StreamExt as _, TryStreamExt as _, channel::mpsc};
use k8s_openapi::{
    api::core::v1::{Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use runtime::{
    Shutdown, Tasks,
    admin::{Gate, Readiness},
    error_chain::ErrorChain,
};
use serde::de::DeserializeOwned;

use self::{
    router::{Change, Router, Wake},
    unreadable::{Delivery, Sieve},
};
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

/// Where the router's answers go.
#[derive(Clone)]
struct Queues {
    bindings: mpsc::Sender<ObjectRef<AcrPullBinding>>,
    accounts: mpsc::Sender<ObjectRef<ServiceAccount>>,
}

/// One watch: where its objects go, and what happens with each change.
struct Watch<K, R>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    writer: Writer<K>,
    gate: Gate,
    route: R,
    queues: Queues,
    shutdown: Shutdown,
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
    let Writers {
        bindings,
        accounts,
        secrets,
    } = writers;
    let client = || context.client.clone();
    let shutdown = || context.shutdown.clone();
    let (bindings_tx, bindings_rx) = mpsc::channel(WAKES);
    let (accounts_tx, accounts_rx) = mpsc::channel(WAKES);
    let queues = Queues {
        bindings: bindings_tx,
        accounts: accounts_tx,
    };
    let router = Arc::new(Router::new(
        Arc::clone(&context.memory),
        stores.bindings.clone(),
        stores.accounts.clone(),
    ));
    let all = watcher::Config::default().page_size(PAGE);
    let selected = selector.map_or_else(|| all.clone(), |selector| all.clone().labels(selector));

    let watch = Watch {
        writer: bindings,
        gate: readiness.gate("watch of bindings"),
        route: {
            let router = Arc::clone(&router);
            move |change: &Change<'_, _>| router.binding(change)
        },
        queues: queues.clone(),
        shutdown: shutdown(),
    };
    let events = slimmed(
        client(),
        selected,
        |binding: &mut DeserializeGuard<AcrPullBinding>| {
            binding.meta_mut().managed_fields = None;
            binding.annotations_mut().remove(LAST_APPLIED);
        },
    );
    let mut sieve = Sieve::default();
    let deliveries = events.try_filter_map(move |event| std::future::ready(Ok(sieve.sift(event))));
    tasks.spawn("watch bindings", watch.run(deliveries));

    let watch = Watch {
        writer: accounts,
        gate: readiness.gate("watch of ServiceAccounts"),
        route: {
            let router = Arc::clone(&router);
            move |change: &Change<'_, _>| router.account(change)
        },
        queues: queues.clone(),
        shutdown: shutdown(),
    };
    let events = slimmed(client(), all.clone(), links::slim);
    tasks.spawn("watch ServiceAccounts", watch.run(events.map_ok(Delivery::Event)));

    let watch = Watch {
        writer: secrets,
        gate: readiness.gate("watch of Secrets"),
        route: move |change: &Change<'_, _>| router.secret(change),
        queues,
        shutdown: shutdown(),
    };
    let labelled = all.labels(pull_secret::BINDING_LABEL);
    let events = slimmed(client(), labelled, |secret: &mut PartialObjectMeta<Secret>| {
        pull_secret::slim(&mut secret.metadata);
    });
    tasks.spawn("watch Secrets", watch.run(events.map_ok(Delivery::Event)));
    Wakes {
        bindings: bindings_rx,
        accounts: accounts_rx,
    }
}

fn slimmed<K>(
    client: Client,
    config: watcher::Config,
    slim: impl FnMut(&mut K) + Send + 'static,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(Api::<K>::all(client), config)
        .default_backoff()
        .modify(slim)
}

impl<K, R> Watch<K, R>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    R: Fn(&Change<'_, K>) -> Vec<Wake> + Send,
{
    async fn run(mut self, deliveries: impl Stream<Item = watcher::Result<Delivery<K>>> + Send) {
        let shutdown = self.shutdown.clone();
        let mut deliveries = std::pin::pin!(deliveries.take_until(shutdown.started()));
        while let Some(delivery) = deliveries.next().await {
            let wakes = match delivery {
                Ok(Delivery::Event(event)) => self.take(&event),
                Ok(Delivery::Unreadable(metadata)) => self.lose(&metadata),
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "a watch failed and is started again");
                    Vec::new()
                }
            };
            for wake in wakes {
                let sent = match wake {
                    Wake::Binding(binding) => self.queues.bindings.send(binding).await,
                    Wake::Account(account) => self.queues.accounts.send(account).await,
                };
                // The controller ends first when the process ends.
                if sent.is_err() {
                    return;
                }
            }
        }
    }

    /// Puts the event into the store and routes it, with the object as it was before.
    fn take(&mut self, event: &Event<K>) -> Vec<Wake> {
        let before = |object: &K| self.writer.as_reader().get(&ObjectRef::from_obj(object));
        let change = match event {
            Event::Apply(after) => Some(Change::Applied {
                before: before(after),
                after,
            }),
            Event::Delete(object) => Some(Change::Gone(object.meta())),
            Event::InitDone => Some(Change::Resynced),
            Event::Init | Event::InitApply(_) => None,
        };
        self.writer.apply_watcher_event(event);
        if matches!(event, Event::InitDone) {
            self.gate.open();
        }
        change.map(|change| (self.route)(&change)).unwrap_or_default()
    }

    /// Takes out of the store what can be read no longer: nobody is to go on with what it said before.
    fn lose(&mut self, metadata: &ObjectMeta) -> Vec<Wake> {
        let name = metadata.name.as_deref().unwrap_or_default();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let known = self
            .writer
            .as_reader()
            .get(&ObjectRef::new(name).within(namespace));
        if let Some(known) = known {
            self.writer.apply_watcher_event(&Event::Delete(K::clone(&known)));
        }
        (self.route)(&Change::Gone(metadata))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{binding, workload_identity_spec};

    #[test]
    fn watch_binding_that_decodes_no_longer_leaves_the_store_and_is_routed() {
        let (store, writer) = reflector::store();
        let mut watch = Watch {
            writer,
            gate: Readiness::default().gate("watch"),
            route: |change: &Change<'_, AcrPullBinding>| match change {
                Change::Gone(metadata) => {
                    vec![Wake::Binding(
                        ObjectRef::new(metadata.name.as_deref().unwrap()).within("shop"),
                    )]
                }
                Change::Applied { .. } | Change::Resynced => Vec::new(),
            },
            queues: Queues {
                bindings: mpsc::channel(0).0,
                accounts: mpsc::channel(0).0,
            },
            shutdown: Shutdown::manual(),
        };
        for name in ["one", "two"] {
            watch.take(&Event::Apply(binding(name, workload_identity_spec())));
        }
        let wakes = watch.lose(&binding("one", workload_identity_spec()).metadata);
        assert_eq!(wakes, [Wake::Binding(ObjectRef::new("one").within("shop"))]);
        let left: Vec<_> = store.state().iter().map(|binding| binding.name_any()).collect();
        assert_eq!(left, ["two"]);
    }
}
