//! Bindings that are being deleted and still carry the peer's finalizer. Nobody serves it any more, so without this the
//! binding would hang, and its namespace or its CRD with it.
//!
//! The finalizer also says whose the links to its Secret are: they go although no record of ours holds them. Metadata is
//! all that is needed, so a binding that does not decode is let go as well.

use std::{collections::HashSet, time::Duration};

use futures::{Stream, StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams},
};
use runtime::error_chain::ErrorChain;

use super::is_on;
use crate::{
    binding::{ApiVersion, Binding},
    context::Context,
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

/// Whether links to the Secret are the binding's to remove: not if the name belongs to a Secret of somebody else.
async fn may_unlink(context: &Context, leaver: &Leaver, secret_name: &str) -> Result<bool, KubeError> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &leaver.namespace);
    let call = secrets.get_metadata_opt(secret_name);
    match context.calls.call(Verb::Get, "secrets", call).await {
        Ok(None) => Ok(true),
        Ok(Some(secret)) => Ok(pull_secret::belongs_to(
            &secret.metadata,
            leaver.api,
            &leaver.name,
        )),
        // A syncer that may not read Secrets does not know. The links in its record go all the same.
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
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::{finalizer::tests::seen, samples::now};

    #[test]
    fn leaver_is_being_deleted_and_carries_the_peers_finalizer() {
        let of = |is_there, is_leaving: bool| {
            let mut metadata = seen("100", is_there).metadata;
            metadata.deletion_timestamp = is_leaving.then(|| Time(now()));
            Leaver::of(ApiVersion::V1Beta2, &metadata)
        };
        assert!(of(true, false).is_none());
        assert!(of(false, true).is_none());
        let leaver = of(true, true).unwrap();
        assert_eq!((leaver.namespace.as_str(), leaver.name.as_str()), ("shop", "web"));
        assert_eq!(leaver.uid(), "uid-of-web");
        assert_eq!(leaver.metadata.resource_version.as_deref(), Some("100"));
    }
}
