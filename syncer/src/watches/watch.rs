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
use crate::{indexed::IndexedWriter, leadership::Authority};

/// One watch: where its objects go, and what happens with each change.
pub(super) struct Watch<K, R>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    pub(super) kind: K::DynamicType,
    pub(super) writer: IndexedWriter<K>,
    pub(super) gate: Gate,
    pub(super) at_start: AtStart,
    pub(super) route: R,
    pub(super) queues: Queues,
    pub(super) authority: Authority,
    pub(super) shutdown: Shutdown,
}

/// Whom the first complete state of a kind wakes. No pass begins before all kinds have theirs, so that one wake of each
/// object is enough, and each watch sees to its own: three for each of 10,000 bindings would be as many passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtStart {
    Bindings,
    Accounts,
    Nothing,
    /// It has begun: whoever is concerned.
    Over,
}

impl AtStart {
    fn wakes(self, wake: &Wake) -> bool {
        match self {
            Self::Bindings => matches!(wake, Wake::Binding(_)),
            Self::Accounts => matches!(wake, Wake::Account(_)),
            Self::Nothing => false,
            Self::Over => true,
        }
    }
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
        let authority = self.authority.clone();
        let mut leads = false;
        let at_takeover = self.at_start;
        loop {
            let delivery = tokio::select! {
                biased;
                () = authority.given(), if !leads => {
                    leads = true;
                    None
                }
                delivery = deliveries.next() => Some(delivery),
            };
            let wakes = match delivery {
                // Whatever a standby was woken for, and did not do.
                None => {
                    let wakes = (self.route)(&Change::Resynced).into_iter();
                    wakes.filter(|wake| at_takeover.wakes(wake)).collect()
                }
                Some(None) => return,
                Some(Some(Ok(Delivery::Event(event)))) => self.take(&event),
                Some(Some(Ok(Delivery::Unreadable(metadata)))) => self.lose(&metadata),
                Some(Some(Err(error))) => {
                    tracing::warn!(error = %ErrorChain(&error), "a watch failed and is started again");
                    Vec::new()
                }
            };
            // Asked after the store has it: a watch that went over all that it has before that did not see this.
            let leads = leads || authority.is_given();
            for wake in wakes.into_iter().filter(|_wake| leads) {
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
        let change = Change::of(event, |object| self.writer.as_reader().get(&key(object)));
        self.writer.apply_watcher_event(event);
        let mut wakes = change.map(|change| (self.route)(&change)).unwrap_or_default();
        if matches!(event, Event::InitDone) {
            self.gate.open();
            wakes.retain(|wake| self.at_start.wakes(wake));
            self.at_start = AtStart::Over;
        }
        wakes
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
    use std::{sync::Arc, time::Duration};

    use futures::{FutureExt as _, channel::mpsc};
    use kube::ResourceExt as _;
    use runtime::{SystemClock, admin::Readiness};

    use super::*;
    use crate::{
        binding::{ApiVersion, Binding, PerApi},
        indexed, links,
        samples::{binding_of, key},
    };

    #[test]
    fn watch_first_state_wakes_its_own_kind_and_a_later_one_all() {
        let account = || links::account_ref("shop", "web");
        for (at_start, first) in [
            (
                AtStart::Bindings,
                vec![Wake::Binding(key(ApiVersion::V1Beta2, "web"))],
            ),
            (AtStart::Accounts, vec![Wake::Account(account())]),
            (AtStart::Nothing, Vec::new()),
        ] {
            let all = vec![
                Wake::Binding(key(ApiVersion::V1Beta2, "web")),
                Wake::Account(account()),
            ];
            let mut watch = Watch {
                kind: ApiVersion::V1Beta2,
                writer: indexed::store(ApiVersion::V1Beta2).1,
                gate: Readiness::default().gate("watch"),
                at_start,
                route: |_change: &Change<'_, Binding>| all.clone(),
                queues: Queues {
                    bindings: PerApi::new(|_api| mpsc::channel(0).0),
                    accounts: mpsc::channel(0).0,
                },
                authority: Authority::endless(Arc::new(SystemClock)),
                shutdown: Shutdown::manual(),
            };
            assert_eq!(watch.take(&Event::InitDone), first);
            assert_eq!(watch.take(&Event::InitDone), all);
        }
    }

    #[test]
    fn watch_binding_that_decodes_no_longer_leaves_the_store_and_is_routed() {
        for api in ApiVersion::ALL {
            let (indexed, writer) = indexed::store(api);
            let store = indexed.store();
            let mut watch = Watch {
                kind: api,
                writer,
                gate: Readiness::default().gate("watch"),
                at_start: AtStart::Bindings,
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
                authority: Authority::endless(Arc::new(SystemClock)),
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

    #[tokio::test]
    async fn watch_of_a_standby_wakes_nobody_and_all_that_it_has_when_it_leads() {
        let api = ApiVersion::V1Beta2;
        let (_indexed, writer) = indexed::store::<Binding>(api);
        let store = writer.as_reader();
        let authority = Authority::to_be_given(Arc::new(SystemClock));
        let (wakes_tx, mut wakes) = mpsc::channel(8);
        let (events_tx, events) = mpsc::unbounded();
        let watch = Watch {
            kind: api,
            writer,
            gate: Readiness::default().gate("watch"),
            at_start: AtStart::Bindings,
            route: {
                let store = store.clone();
                move |change: &Change<'_, Binding>| match change {
                    Change::Applied { after, .. } => vec![Wake::Binding(after.key())],
                    Change::Gone(_metadata) => Vec::new(),
                    Change::Resynced => store.state().iter().map(|one| Wake::Binding(one.key())).collect(),
                }
            },
            queues: Queues {
                bindings: PerApi::new(|_api| wakes_tx.clone()),
                accounts: mpsc::channel(0).0,
            },
            authority: authority.clone(),
            shutdown: Shutdown::manual(),
        };
        let send = |event| events_tx.unbounded_send(Ok(Delivery::Event(event))).unwrap();
        send(Event::Init);
        send(Event::InitApply(binding_of(api, "one")));
        send(Event::InitDone);
        let test = async {
            store.wait_until_ready().await.unwrap();
            assert_eq!(wakes.next().now_or_never(), None, "somebody was woken");
            authority.give_until(Duration::MAX);
            assert_eq!(wakes.next().await, Some(key(api, "one")));
            send(Event::Apply(binding_of(api, "two")));
            assert_eq!(wakes.next().await, Some(key(api, "two")));
            events_tx.close_channel();
        };
        tokio::join!(watch.run(events), test);
    }

    #[tokio::test]
    async fn watch_event_that_is_taken_in_the_moment_of_the_takeover_wakes() {
        let api = ApiVersion::V1Beta2;
        let authority = Authority::to_be_given(Arc::new(SystemClock));
        let (wakes_tx, mut wakes) = mpsc::channel(8);
        let watch = Watch {
            kind: api,
            writer: indexed::store(api).1,
            gate: Readiness::default().gate("watch"),
            at_start: AtStart::Nothing,
            route: {
                let authority = authority.clone();
                move |change: &Change<'_, Binding>| match change {
                    Change::Applied { after, .. } => {
                        authority.give_until(Duration::MAX);
                        vec![Wake::Binding(after.key())]
                    }
                    Change::Gone(_) | Change::Resynced => Vec::new(),
                }
            },
            queues: Queues {
                bindings: PerApi::new(|_api| wakes_tx.clone()),
                accounts: mpsc::channel(0).0,
            },
            authority,
            shutdown: Shutdown::manual(),
        };
        let applied = Event::Apply(binding_of(api, "web"));
        watch
            .run(futures::stream::iter([Ok(Delivery::Event(applied))]))
            .await;
        assert_eq!(wakes.next().now_or_never(), Some(Some(key(api, "web"))));
    }
}
