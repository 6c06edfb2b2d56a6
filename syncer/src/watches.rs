//! The four watches: the bindings of each API, ServiceAccounts, Secrets. Each fills a store and hands every change to the
//! `router`, which says what is to be looked at again. Decides nothing.
//!
//! Here the bindings of both APIs become one type. One that does not decode is as good as gone, see `unreadable`, and an
//! API that is not installed has none, see `absent`; the others go on.
//!
//! Bindings are filtered by the operator's selector, Secrets by our label and as metadata only: this process never
//! holds the content of a Secret that it did not write.

mod absent;
mod router;
mod unreadable;
mod watch;

use std::{fmt::Debug, sync::Arc};

use futures::{Stream, TryStreamExt as _, channel::mpsc};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store},
        watcher::{self, Event, watcher},
    },
};
use runtime::{Tasks, admin::Readiness};
use serde::de::DeserializeOwned;

use self::{
    router::{Change, Router},
    unreadable::{Delivery, Sieve},
    watch::Watch,
};
use crate::{
    binding::{ApiVersion, Binding, BindingRef, Bindings, Defaults, PerApi},
    context::Context,
    crd,
    indexed::{self, Indexed, IndexedWriter},
    links, pull_secret,
};

/// Objects per page of a list, as `kubectl` has it: bounds what one answer holds in memory.
const PAGE: u32 = 500;
/// Wakes that wait for the queue of the controller; it takes them at once, this bounds a burst.
const WAKES: usize = 1024;
/// The largest annotation of most objects, and never read here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The stores that the watches fill.
pub struct Stores {
    /// Bindings that the selector matches.
    pub bindings: Bindings,
    /// All ServiceAccounts, slimmed.
    pub accounts: Indexed<ServiceAccount>,
    /// Secrets with our label.
    pub secrets: Store<PartialObjectMeta<Secret>>,
}

/// The other ends of the stores.
pub struct Writers {
    bindings: PerApi<IndexedWriter<Binding>>,
    accounts: IndexedWriter<ServiceAccount>,
    secrets: IndexedWriter<PartialObjectMeta<Secret>>,
}

/// What is to be looked at again.
pub struct Wakes {
    /// Bindings.
    pub bindings: PerApi<mpsc::Receiver<BindingRef>>,
    /// ServiceAccounts, for their links.
    pub accounts: mpsc::Receiver<ObjectRef<ServiceAccount>>,
}

/// Where the router's answers go.
#[derive(Clone)]
struct Queues {
    bindings: PerApi<mpsc::Sender<BindingRef>>,
    accounts: mpsc::Sender<ObjectRef<ServiceAccount>>,
}

/// Empty stores.
pub fn stores() -> (Stores, Writers) {
    let (bindings, binding_writers) = Bindings::empty();
    let (accounts, accounts_writer) = indexed::store(());
    let (secrets, secrets_writer) = reflector::store();
    (
        Stores {
            bindings,
            accounts,
            secrets,
        },
        Writers {
            bindings: binding_writers,
            accounts: accounts_writer,
            secrets: secrets_writer.into(),
        },
    )
}

/// Which bindings, and what they mean.
pub struct Scope<'a> {
    /// Only those with these labels.
    pub selector: Option<&'a str>,
    /// What bindings of `v1beta1` leave out.
    pub defaults: Defaults,
}

/// Starts the watches. The process is ready when each has delivered its first complete state.
pub fn spawn(
    tasks: &Tasks,
    readiness: &Readiness,
    context: &Arc<Context>,
    stores: &Stores,
    writers: Writers,
    scope: Scope<'_>,
) -> Wakes {
    let Writers {
        bindings,
        accounts,
        secrets,
    } = writers;
    let Scope { selector, defaults } = scope;
    let client = || context.client.clone();
    let shutdown = || context.shutdown.clone();
    let (current_tx, current_rx) = mpsc::channel(WAKES);
    let (older_tx, older_rx) = mpsc::channel(WAKES);
    let (accounts_tx, accounts_rx) = mpsc::channel(WAKES);
    let queues = Queues {
        bindings: PerApi {
            v1beta2: current_tx,
            v1beta1: older_tx,
        },
        accounts: accounts_tx,
    };
    let router = Arc::new(Router::new(
        Arc::clone(&context.memory),
        stores.bindings.clone(),
        stores.accounts.clone(),
    ));
    let all = watcher::Config::default().page_size(PAGE);
    let selected = selector.map_or_else(|| all.clone(), |selector| all.clone().labels(selector));

    let binding_watch = |api: ApiVersion, gate: &'static str, writer: IndexedWriter<Binding>| Watch {
        kind: api,
        writer,
        gate: readiness.gate(gate),
        route: {
            let router = Arc::clone(&router);
            move |change: &Change<'_, _>| router.binding(api, change)
        },
        queues: queues.clone(),
        shutdown: shutdown(),
    };
    let watch = binding_watch(ApiVersion::V1Beta2, "watch of v1beta2 bindings", bindings.v1beta2);
    let deliveries =
        read::<crd::AcrPullBinding>(ApiVersion::V1Beta2, client(), selected.clone(), Binding::from);
    tasks.spawn("watch v1beta2 bindings", watch.run(deliveries));
    let watch = binding_watch(ApiVersion::V1Beta1, "watch of v1beta1 bindings", bindings.v1beta1);
    let deliveries = read(ApiVersion::V1Beta1, client(), selected, move |binding| {
        defaults.complete(binding)
    });
    tasks.spawn("watch v1beta1 bindings", watch.run(deliveries));

    let watch = Watch {
        kind: (),
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
        kind: (),
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
        bindings: PerApi {
            v1beta2: current_rx,
            v1beta1: older_rx,
        },
        accounts: accounts_rx,
    }
}

/// The bindings of one API, as `understand` reads them.
fn read<K>(
    api: ApiVersion,
    client: Client,
    config: watcher::Config,
    understand: impl Fn(K) -> Binding + Send + 'static,
) -> impl Stream<Item = watcher::Result<Delivery<Binding>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = slimmed(client, config, |binding: &mut DeserializeGuard<K>| {
        binding.meta_mut().managed_fields = None;
        binding.annotations_mut().remove(LAST_APPLIED);
    });
    let mut sieve = Sieve::default();
    absent::as_empty(events, api.as_str()).try_filter_map(move |event| {
        let delivery = sieve.sift(event).map(|delivery| delivery.map(&understand));
        std::future::ready(Ok(delivery))
    })
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
