//! The four watches: the bindings of each API, ServiceAccounts, Secrets. Each fills a store and hands every change to the
//! `router`, which says what is to be looked at again. Decides nothing.
//!
//! Here the bindings of both APIs become one type. One that does not decode is as good as gone, see `unreadable`, and an
//! API that is not installed has none, see `absent`; the others go on.
//!
//! They span the cluster, or the namespaces that were named, see `namespaces`. A standby's stores are filled like a
//! leader's. It wakes nobody: when it becomes the leader, each watch goes over all that it has, as after a start.
//!
//! Bindings are filtered by the operator's selector, Secrets by our label and as metadata only: this process never
//! holds the content of a Secret that it did not write.

mod absent;
mod bindings;
mod clock_steps;
mod leftover_links;
mod namespaces;
mod persistent;
pub mod router;
mod unreadable;
mod watch;

use std::{fmt::Debug, sync::Arc};

use futures::{Stream, TryStreamExt as _, channel::mpsc};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{
    Api, Resource,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store},
        watcher::{self, Event, watcher},
    },
};
use runtime::{Tasks, admin::Readiness};
use serde::de::DeserializeOwned;

use self::{
    bindings::BindingWatches,
    persistent::persistent,
    router::{Change, Router},
    unreadable::Delivery,
    watch::{AtStart, Watch},
};
use crate::{
    args::SecretsAccess,
    binding::{AccountRef, Binding, BindingRef, Bindings, Defaults, PerApi},
    context::Context,
    finalizer::leaving::Leaver,
    indexed::{self, Indexed, IndexedWriter},
    links,
    namespaces::Namespaces,
    pull_secret,
};

/// Objects per page of a list, as `kubectl` has it: bounds what one answer holds in memory.
const PAGE: u32 = 500;
/// Wakes that wait for the queue of the controller; it takes them at once, this bounds a burst.
const WAKES: usize = 1024;
/// After this a watch is begun anew where it was, in seconds: for so long may a connection be dead and nobody notice.
const WATCH_TIMEOUT: u32 = 60;

/// The stores that the watches fill.
pub struct Stores {
    /// Bindings that the selector matches.
    pub bindings: Bindings,
    /// All ServiceAccounts, slimmed.
    pub accounts: Indexed<ServiceAccount>,
    /// Secrets with our label; none where they may not be read.
    pub secrets: Option<Store<PartialObjectMeta<Secret>>>,
}

/// The other ends of the stores.
pub struct Writers {
    bindings: PerApi<IndexedWriter<Binding>>,
    accounts: IndexedWriter<ServiceAccount>,
    secrets: Option<IndexedWriter<PartialObjectMeta<Secret>>>,
}

/// What is to be looked at again.
pub struct Wakes {
    /// Bindings.
    pub bindings: PerApi<mpsc::Receiver<BindingRef>>,
    /// ServiceAccounts, for their links.
    pub accounts: mpsc::Receiver<ObjectRef<ServiceAccount>>,
    /// Bindings of both APIs, also those that do not decode, that go and carry the peer's finalizer.
    pub leavers: mpsc::Receiver<Leaver>,
}

/// Where the router's answers go.
#[derive(Clone)]
struct Queues {
    bindings: PerApi<mpsc::Sender<BindingRef>>,
    accounts: mpsc::Sender<ObjectRef<ServiceAccount>>,
}

/// Empty stores.
pub fn stores(secrets_access: SecretsAccess) -> (Stores, Writers) {
    let (bindings, binding_writers) = Bindings::empty();
    let (accounts, accounts_writer) = indexed::store(());
    let (secrets, secrets_writer) = match secrets_access {
        SecretsAccess::Full => {
            let (secrets, writer) = reflector::store();
            (Some(secrets), Some(writer.into()))
        }
        SecretsAccess::WriteOnly => (None, None),
    };
    (
        Stores {
            bindings,
            accounts,
            secrets,
        },
        Writers {
            bindings: binding_writers,
            accounts: accounts_writer,
            secrets: secrets_writer,
        },
    )
}

/// Which bindings, and what they mean.
pub struct Scope<'a> {
    /// Where they are.
    pub namespaces: &'a Namespaces,
    /// Only those with these labels.
    pub selector: Option<&'a str>,
    /// How `serviceAccountRef` is read.
    pub account_ref: AccountRef,
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
    scope: &Scope<'_>,
) -> Wakes {
    let Writers {
        bindings,
        accounts,
        secrets,
    } = writers;
    let (namespaces, client) = (scope.namespaces, &context.client);
    let shutdown = || context.shutdown.clone();
    let (current_tx, current_rx) = mpsc::channel(WAKES);
    let (older_tx, older_rx) = mpsc::channel(WAKES);
    let (accounts_tx, accounts_rx) = mpsc::channel(WAKES);
    let (leavers_tx, leavers_rx) = mpsc::channel(WAKES);
    let queues = Queues {
        bindings: PerApi {
            v1beta2: current_tx,
            v1beta1: older_tx,
        },
        accounts: accounts_tx,
    };
    let router = Arc::new(Router::new(
        Arc::clone(&context.memory),
        Arc::clone(&context.news),
        stores.bindings.clone(),
        stores.accounts.clone(),
    ));
    // What is known of ServiceAccounts and Secrets lasts as long as a binding beside them.
    let needed = {
        let bindings = stores.bindings.clone();
        move |namespace: &str| bindings.any_in(namespace)
    };

    BindingWatches {
        tasks,
        readiness,
        context,
        stores,
        router: Arc::clone(&router),
        queues: queues.clone(),
        leavers: leavers_tx,
    }
    .spawn(bindings, scope);

    let watch = Watch {
        kind: (),
        writer: accounts,
        gate: readiness.gate("watch of ServiceAccounts"),
        at_start: AtStart::Accounts,
        route: {
            let router = Arc::clone(&router);
            move |change: &Change<'_, _>| router.account(change)
        },
        queues: queues.clone(),
        authority: context.authority.clone(),
        shutdown: shutdown(),
    };
    let deliveries = namespaces::as_one(
        namespaces.parts(client),
        stores.accounts.store().clone(),
        needed.clone(),
        |api| slimmed(api, paged(), links::slim).map_ok(Delivery::Event),
    );
    tasks.spawn("watch ServiceAccounts", watch.run(deliveries));

    if let (Some(writer), Some(store)) = (secrets, stores.secrets.clone()) {
        let watch = Watch {
            kind: (),
            writer,
            gate: readiness.gate("watch of Secrets"),
            at_start: AtStart::Nothing,
            route: move |change: &Change<'_, _>| router.secret(change),
            queues: queues.clone(),
            authority: context.authority.clone(),
            shutdown: shutdown(),
        };
        let deliveries = namespaces::as_one(namespaces.parts(client), store, needed, |api| {
            secrets_of(api).map_ok(Delivery::Event)
        });
        tasks.spawn("watch Secrets", watch.run(deliveries));
    }
    let clock = Arc::clone(&context.clock);
    let authority = || context.authority.clone();
    let (bindings, accounts) = (stores.bindings.clone(), stores.accounts.clone());
    let steps = clock_steps::watch(clock, bindings.clone(), queues.clone(), authority(), shutdown());
    tasks.spawn("watch the clock", steps);
    let rounds = leftover_links::watch(bindings, accounts, queues, authority(), shutdown());
    tasks.spawn("leftover links", rounds);
    Wakes {
        bindings: PerApi {
            v1beta2: current_rx,
            v1beta1: older_rx,
        },
        accounts: accounts_rx,
        leavers: leavers_rx,
    }
}

/// Pages, so that no answer is large however many objects there are.
fn paged() -> watcher::Config {
    watcher::Config::default().page_size(PAGE).timeout(WATCH_TIMEOUT)
}

/// Secrets with our label, as metadata only.
fn secrets_of(
    api: Api<PartialObjectMeta<Secret>>,
) -> impl Stream<Item = watcher::Result<Event<PartialObjectMeta<Secret>>>> + Send {
    let labelled = paged().labels(pull_secret::BINDING_LABEL);
    slimmed(api, labelled, |secret: &mut PartialObjectMeta<Secret>| {
        pull_secret::slim(&mut secret.metadata);
    })
}

fn slimmed<K>(
    api: Api<K>,
    config: watcher::Config,
    slim: impl FnMut(&mut K) + Send + 'static,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    persistent(move || watcher(api.clone(), config.clone())).modify(slim)
}

#[cfg(test)]
mod tests;
