//! Events on bindings. They are news, not state: published one after the other, apart from the passes, and dropped
//! when they come faster than the API server takes them.

use futures::{StreamExt as _, channel::mpsc};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource as _,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use runtime::{Shutdown, error_chain::ErrorChain};

use crate::{
    binding::Binding,
    kube_calls::{KubeCalls, Verb},
    status::Notice,
};

/// `reportingController` of our events.
const SOURCE: &str = "acrpull.microsoft.com/syncer";
/// Events that wait: two for each of a thousand bindings that appear at once.
const WAITING: usize = 2048;

/// The end that passes hold.
#[derive(Debug, Clone)]
pub struct Announcer(mpsc::Sender<(ObjectReference, Notice)>);

/// The end that publishes.
pub struct Publisher {
    recorder: Recorder,
    calls: KubeCalls,
    waiting: mpsc::Receiver<(ObjectReference, Notice)>,
}

/// Both ends.
pub fn channel(client: Client, calls: KubeCalls) -> (Announcer, Publisher) {
    let (tx, waiting) = mpsc::channel(WAITING);
    let reporter = Reporter {
        controller: SOURCE.to_owned(),
        instance: None,
    };
    (
        Announcer(tx),
        Publisher {
            recorder: Recorder::new(client, reporter),
            calls,
            waiting,
        },
    )
}

impl Announcer {
    /// Hands over what is to be published on `binding`. Never waits.
    pub fn announce(&self, binding: &Binding, notices: Vec<Notice>) {
        let reference = binding.object_ref(&binding.api);
        let mut sender = self.0.clone();
        for notice in notices {
            if let Err(error) = sender.try_send((reference.clone(), notice)) {
                let (_reference, notice) = error.into_inner();
                tracing::warn!(reason = notice.reason, "too many events: one is dropped");
            }
        }
    }
}

impl Publisher {
    /// Publishes until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let Self {
            recorder,
            calls,
            waiting,
        } = self;
        let mut waiting = std::pin::pin!(waiting.take_until(shutdown.started()));
        while let Some((
            reference,
            Notice {
                warning,
                reason,
                action,
                note,
            },
        )) = waiting.next().await
        {
            let type_ = if warning {
                EventType::Warning
            } else {
                EventType::Normal
            };
            let event = Event {
                type_,
                reason,
                note: Some(note),
                action: action.to_owned(),
                secondary: None,
            };
            let call = recorder.publish(&event, &reference);
            match calls.call(Verb::Create, "events", call).await {
                Ok(()) => {}
                // Nobody will read it.
                Err(error) if error.is_namespace_ending() => {}
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), reason = event.reason, "an event could not be published");
                }
            }
        }
    }
}
