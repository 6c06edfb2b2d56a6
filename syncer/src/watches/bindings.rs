//! The watches of bindings, one for each API. Here what is delivered becomes one type; what does not decode is handed to
//! those who tell its owner, and what goes with the peer's finalizer to those who let it go. Decides nothing.

use std::{fmt::Debug, sync::Arc};

use futures::{Stream, TryStreamExt as _, channel::mpsc};
use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Resource, core::DeserializeGuard, runtime::watcher};
use runtime::{Tasks, admin::Readiness};
use serde::de::DeserializeOwned;

use super::{
    Queues, Scope, Stores, absent, namespaces, paged,
    router::{Change, Router},
    slimmed,
    unreadable::{Delivery, Sieve, teller},
    watch::{AtStart, Watch},
};
use crate::{
    binding::{self, ApiVersion, Binding, PerApi},
    context::Context,
    crd,
    finalizer::leaving::{self, Leaver},
    indexed::IndexedWriter,
};

/// What both watches need.
pub(super) struct BindingWatches<'a> {
    pub(super) tasks: &'a Tasks,
    pub(super) readiness: &'a Readiness,
    pub(super) context: &'a Arc<Context>,
    pub(super) stores: &'a Stores,
    pub(super) router: Arc<Router>,
    pub(super) queues: Queues,
    /// Takes bindings that are being deleted and carry the peer's finalizer.
    pub(super) leavers: mpsc::Sender<Leaver>,
}

impl BindingWatches<'_> {
    /// Starts both.
    pub(super) fn spawn(self, writers: PerApi<IndexedWriter<Binding>>, scope: &Scope<'_>) {
        let Scope {
            namespaces,
            selector,
            account_ref,
            defaults,
        } = scope;
        let (account_ref, client) = (*account_ref, &self.context.client);
        let selected = selector.map_or_else(paged, |selector| paged().labels(selector));
        let (unreadable, teller) = teller::channel(Arc::clone(self.context));
        self.tasks.spawn("unreadable bindings", teller.run());
        let sieve = |api| Sieve::new(api, unreadable.clone());
        // A binding is needed by nobody but itself.
        let nothing_needs = |_namespace: &str| false;

        let watch = self.watch(ApiVersion::V1Beta2, "watch of v1beta2 bindings", writers.v1beta2);
        let store = self.stores.bindings.of(ApiVersion::V1Beta2).clone();
        let deliveries = namespaces::as_one(namespaces.parts(client), store, nothing_needs, |api| {
            let understand = move |binding: crd::AcrPullBinding| Binding {
                account_ref,
                ..Binding::from(binding)
            };
            let sieve = sieve(ApiVersion::V1Beta2);
            read(sieve, api, selected.clone(), self.leavers.clone(), understand)
        });
        self.tasks.spawn("watch v1beta2 bindings", watch.run(deliveries));

        let watch = self.watch(ApiVersion::V1Beta1, "watch of v1beta1 bindings", writers.v1beta1);
        let store = self.stores.bindings.of(ApiVersion::V1Beta1).clone();
        let deliveries = namespaces::as_one(namespaces.parts(client), store, nothing_needs, |api| {
            let defaults = defaults.clone();
            let understand = move |binding| defaults.complete(binding);
            let sieve = sieve(ApiVersion::V1Beta1);
            read(sieve, api, selected.clone(), self.leavers.clone(), understand)
        });
        self.tasks.spawn("watch v1beta1 bindings", watch.run(deliveries));
    }

    fn watch(
        &self,
        api: ApiVersion,
        gate: &'static str,
        writer: IndexedWriter<Binding>,
    ) -> Watch<Binding, impl Fn(&Change<'_, Binding>) -> Vec<super::router::Wake> + Send + use<>> {
        let router = Arc::clone(&self.router);
        Watch {
            kind: api,
            writer,
            gate: self.readiness.gate(gate),
            at_start: AtStart::Bindings,
            route: move |change: &Change<'_, Binding>| router.binding(api, change),
            queues: self.queues.clone(),
            authority: self.context.authority.clone(),
            shutdown: self.context.shutdown.clone(),
        }
    }
}

/// The bindings of one API, as `understand` reads them. Those that go and carry the peer's finalizer are handed to
/// `leavers` before they are read.
fn read<K>(
    mut sieve: Sieve,
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    leavers: mpsc::Sender<Leaver>,
    understand: impl Fn(K) -> Binding + Send + 'static,
) -> impl Stream<Item = watcher::Result<Delivery<Binding>>> + Send
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let events = slimmed(api, config, |binding: &mut DeserializeGuard<K>| {
        binding::slim(binding.meta_mut());
    });
    let events = leaving::noticed(events, sieve.api(), leavers);
    absent::as_empty(events, sieve.api().as_str()).try_filter_map(move |event| {
        let delivery = sieve.sift(event).map(|delivery| delivery.map(&understand));
        std::future::ready(Ok(delivery))
    })
}
