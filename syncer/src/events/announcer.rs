//! Where passes hand over their events. Never waits: what finds no room is dropped and counted. Warnings have room of
//! their own, which no number of other events can take from them.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::Resource as _;
use runtime::Clock;
use tokio::sync::mpsc;

use crate::{
    binding::Binding,
    metrics::{EventType, Metrics},
    seldom::Seldom,
    status::Notice,
    steady,
};

/// The time of an event may lie so far ahead of the clock, in nanoseconds: events that come at one and the same moment, and a
/// clock that is put right by little, take less. What lies further ahead is of a clock that was wrong.
const AHEAD: i64 = 1_000_000_000;

/// The end that passes hold.
#[derive(Debug, Clone)]
pub struct Announcer {
    warnings: mpsc::Sender<News>,
    others: mpsc::Sender<News>,
    clock: Arc<dyn Clock>,
    /// Of the event that was announced last, in nanoseconds.
    last: Arc<AtomicI64>,
    metrics: Metrics,
    overflow: Arc<Seldom>,
}

/// An event that waits to be published.
#[derive(Debug)]
pub(super) struct News {
    pub(super) regarding: ObjectReference,
    pub(super) notice: Notice,
    pub(super) at: Timestamp,
}

impl Announcer {
    pub(super) fn new(
        warnings: mpsc::Sender<News>,
        others: mpsc::Sender<News>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self {
            warnings,
            others,
            clock,
            last: Arc::default(),
            metrics,
            overflow: Arc::default(),
        }
    }

    /// Hands over what is to be published on `binding`. Never waits.
    pub fn announce(&self, binding: &Binding, notices: Vec<Notice>) {
        if !notices.is_empty() {
            self.announce_on(&binding.object_ref(&binding.api), notices);
        }
    }

    /// The same for a binding of which only the reference is known.
    pub fn announce_on(&self, regarding: &ObjectReference, notices: Vec<Notice>) {
        for notice in notices {
            let (queue, kind) = if notice.warning {
                (&self.warnings, EventType::warning)
            } else {
                (&self.others, EventType::normal)
            };
            let regarding = regarding.clone();
            let at = self.moment();
            let news = News {
                regarding,
                notice,
                at,
            };
            if queue.try_send(news).is_err() {
                self.metrics.event_dropped(kind);
                if let Some(kept_back) = self.overflow.is_due(at) {
                    tracing::warn!(?kind, kept_back, "too many events at once: some are dropped");
                }
            }
        }
    }

    /// The time, and one that no other event has: it is what tells the names of events apart. It goes on from that of the
    /// event before, unless the clock was set back for good.
    fn moment(&self) -> Timestamp {
        let now = steady::time_of_day(self.clock.moment());
        // Until the year 2262.
        let now = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
        let after = |last: i64| {
            let next = last.saturating_add(1);
            if next.saturating_sub(now) > AHEAD {
                now
            } else {
                next.max(now)
            }
        };
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)))
            .unwrap_or_else(|last| last);
        Timestamp::from_nanosecond(after(last).into()).unwrap_or_default()
    }
}
