//! Tells the owners of bindings that do not decode: by the status and an event, one binding after the other, apart from
//! the watches. The status is read first, as far as it can be read, so that one that says it already is not written.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Resource as _,
    api::{ApiResource, DynamicObject, ListParams},
};
use runtime::error_chain::ErrorChain;
use tokio::sync::mpsc;

use crate::{
    binding::{ApiVersion, Binding, BindingRef},
    context::Context,
    execute,
    kube_calls::{KubeError, Verb},
    pull_secret,
    status::{self, Names},
};

/// Bindings that wait, half a KiB each. What does not fit gets its status when it changes, or after a restart.
const WAITING: usize = 4096;
/// Tries of one status. The binding is told again when somebody writes it.
const TRIES: u32 = 5;
/// After a try that failed; the same again plus jitter at most.
const RETRY: Duration = Duration::from_secs(5);

/// A binding that does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(super) binding: BindingRef,
    uid: Option<String>,
    pub(super) generation: Option<i64>,
    /// The decoder's.
    pub(super) complaint: String,
}

/// The end that tells.
pub(crate) struct Teller {
    context: Arc<Context>,
    waiting: mpsc::Receiver<Unreadable>,
}

impl Unreadable {
    pub(super) fn new(api: ApiVersion, metadata: &ObjectMeta, complaint: &str) -> Self {
        let name = metadata.name.as_deref().unwrap_or_default();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        Self {
            binding: BindingRef::new_with(name, api).within(namespace),
            uid: metadata.uid.clone(),
            generation: metadata.generation,
            complaint: complaint.to_owned(),
        }
    }

    fn reference(&self) -> ObjectReference {
        let api = self.binding.dyntype;
        ObjectReference {
            api_version: Some(api.as_str().to_owned()),
            kind: Some(Binding::kind(&api).into_owned()),
            name: Some(self.binding.name.clone()),
            namespace: self.binding.namespace.clone(),
            uid: self.uid.clone(),
            ..ObjectReference::default()
        }
    }
}

/// Both ends.
pub(crate) fn channel(context: Arc<Context>) -> (mpsc::Sender<Unreadable>, Teller) {
    let (tx, waiting) = mpsc::channel(WAITING);
    (tx, Teller { context, waiting })
}

impl Teller {
    /// Tells until shutdown.
    pub(crate) async fn run(mut self) {
        let shutdown = self.context.shutdown.clone();
        let all = async {
            // A standby writes nothing. What it was told of by then waits.
            self.context.authority.given().await;
            while let Some(unreadable) = self.waiting.recv().await {
                tell_at_last(&self.context, &unreadable).await;
            }
        };
        tokio::select! {
            // The watches have ended, and they end with the process.
            () = all => shutdown.started().await,
            () = shutdown.started() => {}
        }
    }
}

async fn tell_at_last(context: &Context, unreadable: &Unreadable) {
    for attempt in 1..=TRIES {
        match tell(context, unreadable).await {
            Ok(()) => return,
            Err(error) if error.is_not_found() => return,
            Err(error) if attempt == TRIES => {
                let (namespace, name) = (&unreadable.binding.namespace, &unreadable.binding.name);
                tracing::warn!(namespace, name, error = %ErrorChain(&error), "a binding that does not decode gets no status");
            }
            Err(_error) => tokio::time::sleep(RETRY.mul_f64(1.0 + rand::random::<f64>())).await,
        }
    }
}

/// Writes the status if it does not say it yet.
async fn tell(context: &Context, unreadable: &Unreadable) -> Result<(), KubeError> {
    let Some(mut object) = read(context, &unreadable.binding).await? else {
        return Ok(());
    };
    // Somebody wrote it meanwhile: if that does not decode either, it is told by itself.
    if object.metadata.uid != unreadable.uid || object.metadata.generation != unreadable.generation {
        return Ok(());
    }
    let before = status::of(&mut object);
    let now = context.now();
    let after = status::unreadable(&before, unreadable.generation, &unreadable.complaint, now);
    if before == after {
        return Ok(());
    }
    let patch = match status::merge_patch(&before, &after) {
        Ok(patch) => patch,
        Err(error) => {
            tracing::error!(%error, "the status cannot be written as JSON");
            return Ok(());
        }
    };
    let _worker = context.limits.worker().await;
    execute::write_status(context, &unreadable.binding, unreadable.uid.as_deref(), patch).await?;
    let names = Names {
        secret: &pull_secret::name_for(unreadable.binding.dyntype, &unreadable.binding.name),
        account: "",
    };
    let notices = status::notices(&before, &after, &names);
    context.events.announce_on(&unreadable.reference(), notices);
    Ok(())
}

/// By list, because the syncer's role has no right to get bindings.
async fn read(context: &Context, binding: &BindingRef) -> Result<Option<DynamicObject>, KubeError> {
    let kind = ApiResource::erase::<Binding>(&binding.dyntype);
    let namespace = binding.namespace.as_deref().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
    let one = ListParams::default()
        .fields(&format!("metadata.name={}", binding.name))
        .limit(1);
    let call = api.list(&one);
    let list = context.calls.call(Verb::List, "acrpullbindings", call).await?;
    Ok(list.items.into_iter().next())
}
