//! One watch: puts what comes into its store, and hands every change to the router. Decides nothing.

use std::hash::Hash;

use futures::{SinkExt as _, Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    runtime::{
        reflector::ObjectRef,
        watcher::{self, Event},
    },
};
use runtime::{Shutdown, admin::Gate, error_chain::ErrorChain};

use super::{
    Queues,
    router::{Change, Wake},
    unreadable::Delivery,
};
use crate::indexed::IndexedWriter;

/// One watch: where its objects go, and what happens with each change.
pub(super) struct Watch<K, R>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    pub(super) kind: K::DynamicType,
    pub(super) writer: IndexedWriter<K>,
    pub(super) gate: Gate,
    pub(super) route: R,
    pub(super) queues: Queues,
    pub(super) shutdown: Shutdown,
}

impl<K, R> Watch<K, R>
where
    K: Resource + Clone + Send + Sync + 'static,
    K::DynamicType: Clone + Eq + Hash + Send + Sync,
    R: Fn(&Change<'_, K>) -> Vec<Wake> + Send,
{
    pub(super) async fn run(mut self, deliveries: impl Stream<Item = watcher::Result<Delivery<K>>> + Send) {
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
                    Wake::Binding(binding) => {
                        self.queues.bindings.of_mut(binding.dyntype).send(binding).await
                    }
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
        let key = |object: &K| ObjectRef::from_obj_with(object, self.kind.clone());
        let before = |object: &K| self.writer.as_reader().get(&key(object));
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
            .get(&ObjectRef::new_with(name, self.kind.clone()).within(namespace));
        if let Some(known) = known {
            self.writer.apply_watcher_event(&Event::Delete(K::clone(&known)));
        }
        (self.route)(&Change::Gone(metadata))
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;
    use kube::ResourceExt as _;
    use runtime::admin::Readiness;

    use super::*;
    use crate::{
        binding::{ApiVersion, Binding, PerApi},
        indexed,
        samples::{binding_of, key},
    };

    #[test]
    fn watch_binding_that_decodes_no_longer_leaves_the_store_and_is_routed() {
        for api in ApiVersion::ALL {
            let (indexed, writer) = indexed::store(api);
            let store = indexed.store();
            let mut watch = Watch {
                kind: api,
                writer,
                gate: Readiness::default().gate("watch"),
                route: |change: &Change<'_, Binding>| match change {
                    Change::Gone(metadata) => {
                        vec![Wake::Binding(key(api, metadata.name.as_deref().unwrap()))]
                    }
                    Change::Applied { .. } | Change::Resynced => Vec::new(),
                },
                queues: Queues {
                    bindings: PerApi::new(|_api| mpsc::channel(0).0),
                    accounts: mpsc::channel(0).0,
                },
                shutdown: Shutdown::manual(),
            };
            for name in ["one", "two"] {
                watch.take(&Event::Apply(binding_of(api, name)));
            }
            let wakes = watch.lose(&binding_of(api, "one").metadata);
            assert_eq!(wakes, [Wake::Binding(key(api, "one"))]);
            let left: Vec<_> = store.state().iter().map(|binding| binding.name_any()).collect();
            assert_eq!(left, ["two"]);
        }
    }
}
