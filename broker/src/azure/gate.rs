//! Who may call Azure, when. Every call passes here; a call that must not be made is refused without a byte sent.
//!
//! Per host: calls in flight, calls per second, pauses that the host asked for, a circuit, a budget for second tries.
//! Where callers must wait for the rate, clusters go in turn, and in each its namespaces; where they wait for places, the
//! fewest calls in flight go first. Decisions are pure, in the files below; this file is the waiting around them. Its one
//! lock guards the state and is held for look-ups and counting, never across an await.

mod barrier;
mod bucket;
mod circuit;
mod fair_queue;
mod floor;
mod held;
mod host;
mod limits;
mod pauses;
mod retry_budget;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use runtime::tasks::spawn_detached;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{Attempt, upstream::UpstreamError};
use floor::{Admission, Floor, Replies, Ticket};
use host::HostKey;
pub(super) use limits::HostKind;
use limits::MAX_WAIT;
pub(super) use pauses::PauseScope;

/// A call that somebody wants to make.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    host: HostKey,
    scope: PauseScope,
    attempt: Attempt,
}

/// How a call ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// With an answer that settles the matter: what was asked for, or a refusal that stands.
    Answered,
    /// With an answer, so the host is alive; but with one that helped nobody, and may be another next time.
    Useless(UpstreamError),
    /// With an answer that asks for fewer calls.
    Throttled {
        /// For how long.
        wait: Option<Duration>,
        /// If the host said at the same time that it is not well.
        failure: Option<UpstreamError>,
    },
    /// Without an answer, or with one that says that the host is not well.
    Failed(UpstreamError),
}

/// A call that was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not sent: {why}")]
pub(super) struct Withheld {
    /// What stands in its way.
    pub(super) why: Why,
    /// When to come back. Spread, so that not all come back at once.
    pub(super) retry_after: Duration,
}

/// What stands in the way of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// The host asked for fewer calls.
    Paused,
    /// The last calls failed, this one last.
    CircuitOpen(Arc<UpstreamError>),
    /// Too many are in flight, and too many wait.
    NoPlace,
    /// Too many second tries; the last call that failed, failed like this.
    RetryBudget(Option<Arc<UpstreamError>>),
}

/// The gate to all hosts.
pub(super) struct Gate {
    floor: Mutex<Floor<Reply>>,
}

type Reply = oneshot::Sender<Result<Place, Withheld>>;

/// The right to make one call. Dropping it without a word counts as a call that nobody waited for.
pub(super) struct Place {
    gate: Arc<Gate>,
    admission: Option<Admission>,
}

/// A caller in a queue, which leaves no trace when it goes.
struct Waiting<'a> {
    gate: &'a Arc<Gate>,
    ticket: Ticket,
}

impl Why {
    /// Label in metrics, and a fixed word for traces.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::CircuitOpen(_) => "circuit",
            Self::NoPlace => "no_place",
            Self::RetryBudget(_) => "retry_budget",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Visit {
    pub(super) fn new(kind: HostKind, host: &str, scope: PauseScope, attempt: Attempt) -> Self {
        Self {
            host: (kind, host.into()),
            scope,
            attempt,
        }
    }
}

impl Gate {
    /// An empty gate; `chance` yields numbers in [0, 1).
    pub(super) fn new(chance: fn() -> f64) -> Arc<Self> {
        Arc::new(Self {
            floor: Mutex::new(Floor::new(chance)),
        })
    }

    /// Waits for the right to make a call, for 5 s at most.
    ///
    /// # Errors
    /// The call must not be made, or has found no place.
    ///
    /// # Cancel safety
    /// Cancel safe: a caller that goes away leaves no trace.
    pub(super) async fn enter(self: &Arc<Self>, visit: Visit) -> Result<Place, Withheld> {
        let (reply, decision) = oneshot::channel();
        let ticket = self.act(|floor, now, replies| floor.arrive(visit, reply, now, replies))?;
        let waiting = Waiting { gate: self, ticket };
        match timeout(MAX_WAIT, decision).await {
            Ok(Ok(decision)) => decision,
            Ok(Err(_)) | Err(_) => Err(self.act(|floor, _now, _replies| floor.no_place(&waiting.ticket))),
        }
    }

    /// How many hosts of each kind are not called because calls to them fail.
    pub(super) fn open_circuits(&self) -> [(HostKind, usize); HostKind::ALL.len()] {
        self.floor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open_circuits(Instant::now())
    }

    /// Changes the state, starts whom that lets start, and tells everybody once the lock is released.
    fn act<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Floor<Reply>, Instant, &mut Replies<Reply>) -> T,
    ) -> T {
        let mut replies = Vec::new();
        let (result, to_pump) = {
            let mut floor = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let result = change(&mut floor, now, &mut replies);
            floor.dispatch(now, &mut replies);
            (result, floor.hosts_to_pump(now))
        };
        for (reply, decision) in replies {
            let place = decision.map(|admission| Place {
                gate: Arc::clone(self),
                admission: Some(admission),
            });
            // Somebody who is gone: what comes back is dropped, and with it the place.
            drop(reply.send(place));
        }
        for (key, wait) in to_pump {
            // Ends by itself when nobody waits for the rate any more. Were it lost, those who wait would be refused.
            drop(spawn_detached(Arc::clone(self).pump(key, wait)));
        }
        result
    }

    /// Starts calls as fast as the host's rate allows, while somebody waits for it.
    async fn pump(self: Arc<Self>, key: HostKey, mut wait: Duration) {
        loop {
            sleep(wait).await;
            let again = self.act(|floor, now, replies| {
                floor.dispatch(now, replies);
                floor.pump_again(&key, now)
            });
            match again {
                Some(next) => wait = next,
                None => return,
            }
        }
    }
}

impl Place {
    /// Says how the call ended. Returns how long the host is left alone if the answer asked for that, and what those
    /// are told who come meanwhile.
    pub(super) fn leave(mut self, outcome: Outcome) -> Option<(Duration, Withheld)> {
        let admission = self.admission.take()?;
        self.gate
            .act(|floor, now, replies| floor.leave(admission, Some(outcome), now, replies))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            self.gate.act(|floor, now, replies| {
                floor.leave(admission, None, now, replies);
            });
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.act(|floor, _now, _replies| floor.forget(&self.ticket));
    }
}

#[cfg(test)]
mod tests;
