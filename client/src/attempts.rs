//! What is asked when: one replica; another one if the first is lost or cannot answer; another one as well if the first
//! is silent. Two attempts at most, so a call is either retried or hedged.
//!
//! Knows replicas only as something to be picked, so that all of it runs in virtual time without a network.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::future::{Either, FutureExt as _, select};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Status;

use crate::{
    budget::Budget,
    metrics::ClientMetrics,
    verdict::{Verdict, more_telling},
};

/// After this much silence a second replica is asked too (guarantee R2). Hits take milliseconds and most misses less than a
/// second, so this is rare while all is well.
pub(crate) const HEDGE_AFTER: Duration = Duration::from_secs(2);
/// The longest wait for a replica to be there at all: a restart of the only one, or a slow connection. Longer would keep
/// the truth from the caller, who has a schedule of its own.
const PATIENCE: Duration = Duration::from_secs(5);
/// Times that a request which never left is given to another connection. Each time the connection was closing at that very
/// moment; more than a few in a row is no coincidence.
const MAX_RESENDS: usize = 3;

/// A connection to a replica, as far as choosing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplicaId {
    pub(crate) address: SocketAddr,
    /// Tells connections to one address apart: behind a virtual address each may lead to another replica.
    pub(crate) serial: u64,
}

/// The connections that a call was sent over so far.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<Vec<ReplicaId>>);

impl Asked {
    pub(crate) fn any(&self, is_it: impl Fn(&ReplicaId) -> bool) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .any(is_it)
    }

    fn add(&self, id: ReplicaId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }
}

/// Where replicas come from.
pub(crate) trait Pool: Sync {
    /// A replica that is being asked; it counts as busy until this is dropped.
    type Lease: Leased;

    /// A usable replica that was not asked before, as soon as there is one.
    fn pick(&self, asked: &Asked) -> impl Future<Output = Self::Lease> + Send;
}

/// What the pool wants to know of a replica that is being asked.
pub(crate) trait Leased: Send + Sync {
    /// Which one it is.
    fn id(&self) -> ReplicaId;

    /// It was not silent.
    fn answered(&mut self);
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts<'a, P> {
    pub(crate) pool: &'a P,
    pub(crate) budget: &'a Mutex<Budget>,
    pub(crate) metrics: &'a ClientMetrics,
}

impl<P: Pool> Attempts<'_, P> {
    /// Makes the call: `ask` makes one attempt at the replica that it is given.
    pub(crate) async fn run<T, A, F>(&self, deadline: Instant, ask: A) -> Result<T, Status>
    where
        T: Send,
        A: Fn(&P::Lease) -> F + Sync,
        F: Future<Output = Result<T, Status>> + Send,
    {
        self.metrics.calls.inc();
        self.with_budget(Budget::count_call);
        timeout_at(deadline, self.retried_or_hedged(&ask))
            .await
            .unwrap_or_else(|_elapsed| Err(Status::deadline_exceeded("no answer within the deadline")))
    }

    async fn retried_or_hedged<T, A, F>(&self, ask: &A) -> Result<T, Status>
    where
        T: Send,
        A: Fn(&P::Lease) -> F + Sync,
        F: Future<Output = Result<T, Status>> + Send,
    {
        let asked = Asked::default();
        let Some(lease) = self.pick_soon(&asked).await else {
            return Err(Status::unavailable("no replica can be reached"));
        };
        let first = pin!(self.ask(lease, &asked, ask));
        let turn = pin!(self.turn_of_a_second(&asked));
        match select(first, turn).await {
            Either::Left((Err(status), _)) if Verdict::of(&status) != Verdict::Definitive => {
                self.retry(status, &asked, ask).await
            }
            Either::Left((result, _)) => result,
            Either::Right((lease, first)) => {
                self.metrics.hedges.inc();
                tracing::debug!("no answer yet: a second replica is asked too");
                first_definitive(first, pin!(self.ask(lease, &asked, ask))).await
            }
        }
    }

    /// One attempt. A request that never left is no attempt: it goes to the next connection.
    async fn ask<T, A, F>(&self, mut lease: P::Lease, asked: &Asked, ask: &A) -> Result<T, Status>
    where
        A: Fn(&P::Lease) -> F + Sync,
        F: Future<Output = Result<T, Status>> + Send,
    {
        let mut resends = 0;
        loop {
            asked.add(lease.id());
            let result = ask(&lease).await;
            lease.answered();
            match result {
                Err(status) if Verdict::of(&status) == Verdict::Unsent && resends < MAX_RESENDS => {
                    resends += 1;
                    lease = self.pick_soon(asked).await.ok_or(status)?;
                }
                result => return result,
            }
        }
    }

    async fn retry<T, A, F>(&self, first: Status, asked: &Asked, ask: &A) -> Result<T, Status>
    where
        A: Fn(&P::Lease) -> F + Sync,
        F: Future<Output = Result<T, Status>> + Send,
    {
        let is_free = matches!(Verdict::of(&first), Verdict::Lost | Verdict::Unsent);
        let another = if is_free {
            self.pick_soon(asked).await
        } else {
            // The caller has an answer already: it is not kept waiting for a replica that may never come.
            self.pool.pick(asked).now_or_never()
        };
        let Some(lease) = another else {
            return Err(first);
        };
        // A replica that dies takes all its calls with it, hundreds perhaps, and the load that they were: repeating them once
        // adds none, and refusing to would fail them. A replica that answers is alive, and others may be as busy.
        if !is_free && !self.take_extra() {
            return Err(first);
        }
        self.metrics.retries.inc();
        tracing::debug!(code = ?first.code(), "a replica could not answer: another one is asked");
        self.ask(lease, asked, ask)
            .await
            .map_err(|second| more_telling(first, second))
    }

    /// Resolves when it is time to ask a second replica, there is one, and the budget allows it.
    async fn turn_of_a_second(&self, asked: &Asked) -> P::Lease {
        tokio::time::sleep(HEDGE_AFTER).await;
        let lease = self.pool.pick(asked).await;
        if !self.take_extra() {
            drop(lease);
            return std::future::pending().await;
        }
        lease
    }

    async fn pick_soon(&self, asked: &Asked) -> Option<P::Lease> {
        timeout(PATIENCE, self.pool.pick(asked)).await.ok()
    }

    fn take_extra(&self) -> bool {
        let is_allowed = self.with_budget(Budget::take_extra);
        if !is_allowed {
            self.metrics.withheld.inc();
        }
        is_allowed
    }

    fn with_budget<R>(&self, use_it: impl FnOnce(&mut Budget, Instant) -> R) -> R {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        use_it(&mut budget, Instant::now())
    }
}

/// The first answer to the question of two attempts; where neither has one, the more telling failure.
async fn first_definitive<T>(
    first: impl Future<Output = Result<T, Status>> + Unpin,
    second: impl Future<Output = Result<T, Status>> + Unpin,
) -> Result<T, Status> {
    let (result, other) = match select(first, second).await {
        Either::Left((result, other)) => (result, Either::Right(other)),
        Either::Right((result, other)) => (result, Either::Left(other)),
    };
    match result {
        Err(status) if Verdict::of(&status) != Verdict::Definitive => {
            other.await.map_err(|last| more_telling(status, last))
        }
        definitive => definitive,
    }
}

#[cfg(test)]
mod tests;
