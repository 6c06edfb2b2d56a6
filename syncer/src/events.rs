//! Events on bindings. They are news, not state: published one after the other, apart from the passes, and dropped
//! when they come faster than the API server takes them.
//!
//! Each change is an event of its own; what goes on is told by the status. So nothing is counted up, and nothing has to
//! be remembered of events that were published.

mod object;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    jiff::{SignedDuration, Timestamp},
};
use kube::{Api, Client, Resource as _, api::PostParams, runtime::events::Reporter};
use runtime::{Clock, Shutdown, error_chain::ErrorChain};
use tokio::sync::mpsc;

use crate::{
    binding::Binding,
    kube_calls::{KubeCalls, Verb},
    seldom::Seldom,
    status::Notice,
};

/// `reportingController` of our events.
const SOURCE: &str = "acrpull.microsoft.com/syncer";
/// Events that wait: one for each of two thousand bindings that appear at once, a few hundred bytes each.
const WAITING: usize = 2048;
/// The least time between two events, of which each has its time in its name.
const A_MOMENT: SignedDuration = SignedDuration::from_nanos(1);

/// The end that passes hold.
#[derive(Debug, Clone)]
pub struct Announcer {
    queue: mpsc::Sender<(ObjectReference, Notice)>,
    dropped: Arc<AtomicU64>,
}

/// The end that publishes.
pub struct Publisher {
    client: Client,
    calls: KubeCalls,
    clock: Arc<dyn Clock>,
    waiting: mpsc::Receiver<(ObjectReference, Notice)>,
    dropped: Arc<AtomicU64>,
}

/// Both ends.
pub fn channel(client: Client, calls: KubeCalls, clock: Arc<dyn Clock>) -> (Announcer, Publisher) {
    let (queue, waiting) = mpsc::channel(WAITING);
    let dropped = Arc::<AtomicU64>::default();
    let announcer = Announcer {
        queue,
        dropped: Arc::clone(&dropped),
    };
    let publisher = Publisher {
        client,
        calls,
        clock,
        waiting,
        dropped,
    };
    (announcer, publisher)
}

impl Announcer {
    /// Hands over what is to be published on `binding`. Never waits.
    pub fn announce(&self, binding: &Binding, notices: Vec<Notice>) {
        if !notices.is_empty() {
            self.announce_on(&binding.object_ref(&binding.api), notices);
        }
    }

    /// The same for a binding of which only the reference is known.
    pub fn announce_on(&self, regarding: &ObjectReference, notices: Vec<Notice>) {
        for notice in notices {
            if self.queue.try_send((regarding.clone(), notice)).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Publisher {
    /// Publishes until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let Self {
            client,
            calls,
            clock,
            mut waiting,
            dropped,
        } = self;
        let (overflow, failures) = (Seldom::default(), Seldom::default());
        // Of the Pod, which is its host name; where there is none, as the API server must have one.
        let instance = Reporter::from(SOURCE)
            .instance
            .unwrap_or_else(|| SOURCE.to_owned());
        let mut last = Timestamp::UNIX_EPOCH;
        loop {
            let (regarding, notice) = tokio::select! {
                Some(next) = waiting.recv() => next,
                () = shutdown.started() => return,
            };
            let now = Timestamp::try_from(clock.now()).unwrap_or_default();
            if dropped.load(Ordering::Relaxed) > 0 && overflow.is_due(now).is_some() {
                let dropped = dropped.swap(0, Ordering::Relaxed);
                tracing::warn!(dropped, "too many events at once: some are dropped");
            }
            last = now.max(last.saturating_add(A_MOMENT).unwrap_or(now));
            let event = object::event(notice, &regarding, [SOURCE, &instance], last);
            let namespace = regarding.namespace.as_deref().unwrap_or_default();
            let events: Api<Event> = Api::namespaced(client.clone(), namespace);
            let params = PostParams::default();
            match calls
                .call(Verb::Create, "events", events.create(&params, &event))
                .await
            {
                Ok(_event) => {}
                // Nobody will read it.
                Err(error) if error.is_namespace_ending() || error.is_not_found() => {}
                Err(error) => {
                    if let Some(kept_back) = failures.is_due(now) {
                        let (reason, error) = (&event.reason, ErrorChain(&error));
                        tracing::warn!(%error, reason, kept_back, "an event could not be published");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (Announcer, mpsc::Receiver<(ObjectReference, Notice)>) {
        let (queue, waiting) = mpsc::channel(WAITING);
        let dropped = Arc::default();
        (Announcer { queue, dropped }, waiting)
    }

    #[test]
    fn events_that_come_too_fast_are_dropped_and_counted() {
        let (announcer, waiting) = queue();
        for _binding in 0..10_000 {
            let announcer = announcer.clone();
            announcer.announce_on(&ObjectReference::default(), vec![Notice::adopted("acr-pull-web")]);
        }
        assert_eq!(waiting.len(), WAITING);
        let dropped = announcer.dropped.load(Ordering::Relaxed);
        assert_eq!(usize::try_from(dropped).unwrap(), 10_000 - WAITING);
    }
}
