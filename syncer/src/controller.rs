//! The loops: passes over the bindings of each API, links of ServiceAccounts, and bindings that are being deleted and
//! carry the peer's finalizer. All take what the watches wake them for, one pass at a time per object, as many objects at
//! a time as there are. A standby makes none.
//!
//! The number of passes is not bounded here, on purpose: a pass that waits costs a task and no worker (see
//! [`crate::context::Limits`]), while a bound would let a few hundred bindings of a silent registry use it up.

mod agenda;
mod passes;

use std::{hash::Hash, sync::Arc, time::Duration};

use futures::{StreamExt as _, channel::mpsc, stream};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    ResourceExt as _,
    runtime::reflector::{ObjectRef, Store},
};
use runtime::{error_chain::ErrorChain, tasks};
use tokio::task::{JoinError, JoinHandle};
use tracing::Instrument as _;

use crate::{
    binding::{ApiVersion, Binding, BindingRef, PerApi},
    context::Context,
    finalizer::leaving,
    metrics::PassResult,
    reconcile,
    watches::{Stores, Wakes},
};

/// After a pass that panicked; the same again plus jitter at most. A fault of the syncer must not become a loop.
const AFTER_PANIC: Duration = Duration::from_secs(60);
/// After links could not be written; the same again plus jitter at most.
const LINK_RETRY: Duration = Duration::from_secs(15);

/// All loops, until shutdown.
pub async fn run(context: Arc<Context>, stores: Stores, wakes: Wakes) {
    // One waiter for all: a store wakes only the last of several that wait for it.
    let mut leavers = wakes.leavers;
    let begins = async { synced(&context, &stores).await && led(&context).await };
    let (begins, early) = leaving::gather(&mut leavers, begins).await;
    if begins {
        let Stores {
            bindings,
            accounts,
            secrets: _,
        } = stores;
        let PerApi { v1beta2, v1beta1 } = wakes.bindings;
        tokio::join!(
            reconcile_bindings(&context, bindings.of(ApiVersion::V1Beta2).clone(), v1beta2),
            reconcile_bindings(&context, bindings.of(ApiVersion::V1Beta1).clone(), v1beta1),
            settle_links(&context, accounts.store().clone(), wakes.accounts),
            leaving::run(&context, stream::iter(early).chain(leavers)),
        );
    }
}

async fn reconcile_bindings(
    context: &Arc<Context>,
    store: Store<Binding>,
    wakes: mpsc::Receiver<BindingRef>,
) {
    let start = |binding: Arc<Binding>, context: Arc<Context>| {
        // A root of its own: the work on a binding is a trace, not a branch of the process's life.
        let span = tracing::info_span!(
            parent: None,
            "reconcile AcrPullBinding",
            otel.kind = "internal",
            acrpull.binding.api = binding.api.as_str(),
            acrpull.binding.namespace = binding.namespace(),
            acrpull.binding.name = binding.name_any(),
            acrpull.binding.generation = binding.metadata.generation,
            acrpull.outcome = tracing::field::Empty,
        );
        tasks::spawn_detached(reconcile::reconcile(context, binding).instrument(span))
    };
    drive(context, store, wakes, start).await;
}

/// The links that bindings left behind, and those that somebody removed.
async fn settle_links(
    context: &Arc<Context>,
    store: Store<ServiceAccount>,
    wakes: mpsc::Receiver<ObjectRef<ServiceAccount>>,
) {
    let start = |account: Arc<ServiceAccount>, context: Arc<Context>| {
        let span = tracing::info_span!(
            parent: None,
            "settle links of ServiceAccount",
            otel.kind = "internal",
            serviceaccount.namespace = account.namespace(),
            serviceaccount.name = account.name_any(),
        );
        tasks::spawn_detached(settle(context, ObjectRef::from_obj(account.as_ref())).instrument(span))
    };
    drive(context, store, wakes, start).await;
}

/// Starts a pass for every wake, one at a time per object, until shutdown.
async fn drive<K>(
    context: &Arc<Context>,
    store: Store<K>,
    wakes: mpsc::Receiver<ObjectRef<K>>,
    start: impl Fn(Arc<K>, Arc<Context>) -> JoinHandle<Option<Duration>>,
) where
    K: kube::Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    let begin = |object: &ObjectRef<K>| {
        let pass = start(store.get(object)?, Arc::clone(context));
        let (object, context) = (object.clone(), Arc::clone(context));
        // What a pass comes to it says itself: one over a binding in the status, the metrics and the trace, others in the
        // log. One that the end of the process cuts short says nothing.
        Some(async move {
            pass.await
                .unwrap_or_else(|_quotes_it: JoinError| Some(panicked(&object, &context)))
        })
    };
    let wakes = wakes.take_until(context.shutdown.started());
    passes::run(wakes, begin).await;
}

async fn settle(context: Arc<Context>, account: ObjectRef<ServiceAccount>) -> Option<Duration> {
    match context.links.settle(&context, &account, None).await {
        Ok(_settled) => None,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "the links of a ServiceAccount could not be settled");
            let pause = LINK_RETRY.max(error.retry_after().unwrap_or_default());
            Some(pause.mul_f64(1.0 + rand::random::<f64>()))
        }
    }
}

/// Waits until all stores are filled; a decision on half of the world could take a link for forgotten.
async fn synced(context: &Context, stores: &Stores) -> bool {
    async fn ready<K>(store: &Store<K>) -> bool
    where
        K: kube::runtime::reflector::Lookup + Clone + 'static,
        K::DynamicType: Eq + Hash + Clone,
    {
        store.wait_until_ready().await.is_ok()
    }
    let all = async {
        for api in ApiVersion::ALL {
            if !ready(stores.bindings.of(api)).await {
                return false;
            }
        }
        if let Some(secrets) = &stores.secrets
            && !ready(secrets).await
        {
            return false;
        }
        ready(stores.accounts.store()).await
    };
    tokio::select! {
        all = all => all,
        () = context.shutdown.started() => false,
    }
}

/// Waits until this process is the one that does the work.
async fn led(context: &Context) -> bool {
    tokio::select! {
        () = context.authority.given() => true,
        () = context.shutdown.started() => false,
    }
}

/// Where it panicked is in the log already. What the panic says is withheld there, and here as well: it may quote anything,
/// and the error of the task quotes it.
fn panicked<K: kube::Resource>(object: &ObjectRef<K>, context: &Context) -> Duration {
    let (namespace, name) = (&object.namespace, &object.name);
    tracing::error!(namespace, name, "a pass panicked");
    context.metrics.reconciled(PassResult::panic);
    AFTER_PANIC.mul_f64(1.0 + rand::random::<f64>())
}

#[cfg(test)]
mod tests;
