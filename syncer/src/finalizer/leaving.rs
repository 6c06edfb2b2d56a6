//! Bindings that are being deleted and still carry the peer's finalizer. Nobody serves it any more, so without this the
//! binding would hang, and its namespace or its CRD with it.
//!
//! The finalizer also says whose the links to its Secret are: they go although no record of ours holds them. Metadata is
//! all that is needed, so a binding that does not decode is let go as well.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::{
    SinkExt as _, Stream, StreamExt as _, TryStreamExt as _, channel::mpsc, stream::FuturesUnordered,
};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Resource,
    api::{ApiResource, DynamicObject, ListParams},
    runtime::watcher::{self, Event},
};
use runtime::error_chain::ErrorChain;

use super::is_on;
use crate::{
    binding::{ApiVersion, Binding},
    context::{Context, Secrets},
    execute,
    kube_calls::{KubeError, Verb},
    pull_secret,
};

/// After a failure, doubling from the one to the other; half as much again at most.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// A binding that is being deleted and carries the peer's finalizer.
#[derive(Debug, Clone)]
pub struct Leaver {
    api: ApiVersion,
    namespace: String,
    name: String,
    metadata: ObjectMeta,
}

impl Leaver {
    /// The binding with this metadata, if it is one.
    pub fn of(api: ApiVersion, metadata: &ObjectMeta) -> Option<Self> {
        (metadata.deletion_timestamp.is_some() && is_on(metadata)).then(|| Self {
            api,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            // What the patch needs. Leavers may wait long, when Kubernetes refuses.
            metadata: ObjectMeta {
                uid: metadata.uid.clone(),
                resource_version: metadata.resource_version.clone(),
                finalizers: metadata.finalizers.clone(),
                ..ObjectMeta::default()
            },
        })
    }

    fn uid(&self) -> String {
        self.metadata.uid.clone().unwrap_or_default()
    }
}

/// The events as they are. Bindings among them that are to be let go are handed to `leavers` first, whether they decode
/// or not.
pub fn noticed<K: Resource>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    api: ApiVersion,
    leavers: mpsc::Sender<Leaver>,
) -> impl Stream<Item = watcher::Result<Event<K>>> {
    events.and_then(move |event| {
        let leaver = match &event {
            Event::Apply(binding) | Event::InitApply(binding) => Leaver::of(api, binding.meta()),
            Event::Delete(_) | Event::Init | Event::InitDone => None,
        };
        let mut leavers = leavers.clone();
        async move {
            if let Some(leaver) = leaver {
                // Nobody takes them when the process ends.
                let _sent = leavers.send(leaver).await;
            }
            Ok(event)
        }
    })
}

/// Takes what comes until `ready` is over: a watch that could not hand over its leavers would never finish its first list,
/// and everybody waits for that. Each binding once, however often it changes: a standby waits for days.
pub async fn gather<T>(
    leavers: &mut mpsc::Receiver<Leaver>,
    ready: impl Future<Output = T>,
) -> (T, Vec<Leaver>) {
    let mut ready = std::pin::pin!(ready);
    let mut gathered = HashMap::new();
    loop {
        tokio::select! {
            ready = &mut ready => return (ready, gathered.into_values().collect()),
            Some(leaver) = leavers.next() => {
                gathered.insert(leaver.uid(), leaver);
            }
        }
    }
}

/// Lets go of every binding that comes, until they end. The ServiceAccounts must be known by then.
pub async fn run(context: &Context, leavers: impl Stream<Item = Leaver>) {
    let mut leavers = std::pin::pin!(leavers.take_until(context.shutdown.started()).fuse());
    // A binding comes again with each of its changes.
    let mut known = HashSet::new();
    let mut leaving = FuturesUnordered::new();
    loop {
        tokio::select! {
            leaver = leavers.next() => match leaver {
                Some(leaver) if known.insert(leaver.uid()) => leaving.push(until_gone(context, leaver)),
                Some(_known) => {}
                None => return,
            },
            Some(uid) = leaving.next() => {
                known.remove(&uid);
            }
        }
    }
}

/// Tries until the binding is let go. Its uid.
async fn until_gone(context: &Context, mut leaver: Leaver) -> String {
    let mut pause = FIRST_PAUSE;
    loop {
        match let_go(context, &leaver).await {
            Ok(()) => break,
            Err(error) if error.is_not_found() => break,
            // Somebody changed it at the same time, or it was gone already. The next look says.
            Err(error) if error.is_conflict() => {}
            Err(error) => {
                tracing::warn!(
                    acrpull.binding.namespace = leaver.namespace,
                    acrpull.binding.name = leaver.name,
                    error = %ErrorChain(&error),
                    "a binding that is being deleted still has the finalizer of msi-acrpull"
                );
            }
        }
        tokio::time::sleep(pause.mul_f64(1.0 + rand::random::<f64>() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        match live(context, &leaver).await {
            Ok(Some(newer)) => leaver = newer,
            Ok(None) => break,
            // The next attempt says what is wrong.
            Err(_error) => {}
        }
    }
    leaver.uid()
}

/// First the links, then the finalizer: once that is gone nothing says any more that they were the peer's.
async fn let_go(context: &Context, leaver: &Leaver) -> Result<(), KubeError> {
    let secret_name = pull_secret::name_for(leaver.api, &leaver.name);
    if may_unlink(context, leaver, &secret_name).await? {
        for account in context.links.listing(&leaver.namespace, &secret_name) {
            match context.links.unlink(context, &account, &secret_name).await {
                Ok(_unlinked) => {}
                // A link to a Secret that is gone harms nobody; a namespace that hangs does.
                Err(error) if [403, 422].contains(&error.code()) => {
                    tracing::warn!(
                        serviceaccount.namespace = leaver.namespace,
                        serviceaccount.name = account.name,
                        error = %ErrorChain(&error),
                        "a link of msi-acrpull could not be removed"
                    );
                }
                Err(error) => return Err(error),
            }
        }
    }
    let _worker = context.limits.first_worker().await;
    execute::remove_finalizer(
        context,
        leaver.api,
        &leaver.namespace,
        &leaver.name,
        &leaver.metadata,
    )
    .await?;
    tracing::info!(
        acrpull.binding.namespace = leaver.namespace,
        acrpull.binding.name = leaver.name,
        "the finalizer of msi-acrpull was removed from a binding that is being deleted"
    );
    Ok(())
}

/// Whether links to the Secret are the binding's to remove: not if the name belongs to a Secret of somebody else. A syncer
/// that may not read Secrets does not ask: the links in its record go all the same, those that only the peer had made stay.
async fn may_unlink(context: &Context, leaver: &Leaver, secret_name: &str) -> Result<bool, KubeError> {
    match context.secrets {
        Secrets::Unread(_) => return Ok(false),
        Secrets::Watched(_) => {}
    }
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &leaver.namespace);
    let call = secrets.get_metadata_opt(secret_name);
    let _worker = context.limits.first_worker().await;
    match context.calls.call(Verb::Get, "secrets", call).await {
        Ok(None) => Ok(true),
        Ok(Some(secret)) => Ok(pull_secret::belongs_to(
            &secret.metadata,
            leaver.api,
            &leaver.name,
        )),
        // Its role lacks what it should have in this namespace: then it does not know either.
        Err(error) if error.code() == 403 => Ok(false),
        Err(error) => Err(error),
    }
}

/// The binding as it is now, if it still is one that is to be let go. By list, because the syncer's role has no right to
/// get bindings.
async fn live(context: &Context, leaver: &Leaver) -> Result<Option<Leaver>, KubeError> {
    let kind = ApiResource::erase::<Binding>(&leaver.api);
    let bindings: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &leaver.namespace, &kind);
    let one = ListParams::default().fields(&format!("metadata.name={}", leaver.name));
    let call = bindings.list_metadata(&one);
    let found = context.calls.call(Verb::List, "acrpullbindings", call).await?;
    let found = found.items.into_iter().next();
    let same = found.filter(|found| found.metadata.uid == leaver.metadata.uid);
    Ok(same.and_then(|found| Leaver::of(leaver.api, &found.metadata)))
}

#[cfg(test)]
mod tests;
