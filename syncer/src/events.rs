//! Events on bindings. They are news, not state: published apart from the passes, warnings first, and dropped when they
//! come faster than the API server takes them.
//!
//! Each change is an event of its own; what goes on is told by the status. So nothing is counted up, and nothing has to
//! be remembered of events that were published. An event has its time from when it is announced: whichever of two
//! arrives first, readers see them in the order in which they happened; unless the clock is set back by more than a second
//! in between, because the time of an event is not to be of a clock that was wrong.

mod announcer;
mod object;

use std::sync::Arc;

use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::api::events::v1::Event;
use kube::{Api, Client, api::PostParams, runtime::events::Reporter};
use runtime::{Clock, Shutdown, error_chain::ErrorChain};
use tokio::sync::mpsc;

pub use self::announcer::Announcer;
use self::announcer::News;
use crate::{
    kube_calls::{KubeCalls, Verb},
    metrics::Metrics,
    seldom::Seldom,
    steady,
};

/// `reportingController` of our events.
const SOURCE: &str = "acrpull.microsoft.com/syncer";
/// Events of what went well that wait: one for each of two thousand bindings that appear at once, less than 1 KiB each.
const WAITING: usize = 2_048;
/// Warnings that wait: one for each binding of a large cluster. That something is wrong with theirs is what people are to
/// hear, and a registry that fails is wrong with all of them at once.
const WARNINGS_WAITING: usize = 10_000;
/// Events that are being published: a burst is over in time, and the passes still have most of what the server gives us.
const AT_ONCE: usize = 4;

/// The end that publishes.
pub struct Publisher {
    client: Client,
    calls: KubeCalls,
    clock: Arc<dyn Clock>,
    warnings: mpsc::Receiver<News>,
    others: mpsc::Receiver<News>,
}

/// Both ends.
pub fn channel(
    client: Client,
    calls: KubeCalls,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
) -> (Announcer, Publisher) {
    let (warnings_tx, warnings) = mpsc::channel(WARNINGS_WAITING);
    let (others_tx, others) = mpsc::channel(WAITING);
    let announcer = Announcer::new(warnings_tx, others_tx, Arc::clone(&clock), metrics);
    let publisher = Publisher {
        client,
        calls,
        clock,
        warnings,
        others,
    };
    (announcer, publisher)
}

impl Publisher {
    /// Publishes until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let Self {
            client,
            calls,
            clock,
            warnings,
            others,
        } = self;
        // Of the Pod, which is its host name; where there is none, as the API server must have one.
        let instance = Reporter::from(SOURCE)
            .instance
            .unwrap_or_else(|| SOURCE.to_owned());
        let failures = Seldom::default();
        let publish = async |news: News| {
            let event = object::event(news.notice, &news.regarding, [SOURCE, &instance], news.at);
            let namespace = news.regarding.namespace.as_deref().unwrap_or_default();
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
                    if let Some(kept_back) = failures.is_due(steady::time_of_day(clock.moment())) {
                        let (reason, error) = (&event.reason, ErrorChain(&error));
                        tracing::warn!(%error, reason, kept_back, "an event could not be published");
                    }
                }
            }
        };
        warnings_first(warnings, others)
            .take_until(shutdown.started())
            .for_each_concurrent(AT_ONCE, publish)
            .await;
    }
}

/// What waits: warnings before all others, the oldest of its class first.
fn warnings_first(warnings: mpsc::Receiver<News>, others: mpsc::Receiver<News>) -> impl Stream<Item = News> {
    stream::unfold((warnings, others), |(mut warnings, mut others)| async move {
        let next = tokio::select! {
            biased;
            Some(warning) = warnings.recv() => warning,
            Some(other) = others.recv() => other,
            else => return None,
        };
        Some((next, (warnings, others)))
    })
}

#[cfg(test)]
mod tests;
