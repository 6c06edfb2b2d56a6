//! Leader election: of several replicas one works, the others stand by with warm stores. This file makes the moves
//! that `claim` decides on, and says what came of them; whoever writes to Kubernetes asks `authority`.
//!
//! Losing the Lease ends the process, as other controllers do it: what it remembers may be outdated, and a start is
//! cheap. What it had sent by then cannot undo the work of its successor, because every write of a Secret or a
//! ServiceAccount names the version that it was decided on. A status does not, see `execute`.
//!
//! Not a crate: those that exist compare the time of day in the Lease with their own, or renew whatever version there
//! is, and none knows a renew deadline.

mod authority;
mod claim;
mod lease;

use std::{future::Future, sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use runtime::{Clock, Failure, Shutdown, error_chain::ErrorChain};

use self::{
    claim::{Claim, Move, Record},
    lease::LeaseObject,
};
use crate::{
    kube_calls::{KubeCalls, KubeError},
    metrics::Metrics,
};

pub use self::{authority::Authority, claim::Timing, lease::LeaseName};

/// For giving the Lease back at the end of the process, tries included. Those who wait for it look every 2 s.
const RELEASE: Duration = Duration::from_secs(3);
/// Somebody who labels the Lease may come between.
const RELEASE_TRIES: usize = 3;

/// What an election needs.
pub struct Candidacy {
    /// The API server, by a client that repeats nothing: what comes of a call must be known within its short time, and the
    /// election tries again by itself.
    pub client: Client,
    /// The Lease.
    pub lease: LeaseName,
    /// How this process calls itself; a random suffix is added, because a process that comes after it under the same
    /// name is another one.
    pub name: String,
    /// The times.
    pub timing: Timing,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Where leadership is counted.
    pub metrics: Metrics,
    /// The end of the process.
    pub shutdown: Shutdown,
}

/// This process's part in the election.
pub struct Election {
    claim: Claim,
    timing: Timing,
    lease: LeaseObject,
    /// For people.
    lease_name: String,
    authority: Authority,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    shutdown: Shutdown,
    /// The last holder that was told of.
    told: Option<String>,
}

/// Why a move came to nothing.
#[derive(Debug, thiserror::Error)]
enum MoveError {
    #[error("the API server did not answer in time")]
    Slow,
    #[error(transparent)]
    Call(#[from] KubeError),
}

impl MoveError {
    /// That another candidate was faster is no news.
    fn is_race(&self) -> bool {
        match self {
            Self::Call(error) => error.is_conflict() || error.is_not_found(),
            Self::Slow => false,
        }
    }
}

impl Election {
    /// No part is taken yet.
    pub fn new(candidacy: Candidacy) -> Self {
        let Candidacy {
            client,
            lease,
            name,
            timing,
            clock,
            metrics,
            shutdown,
        } = candidacy;
        let identity = format!("{name}_{:016x}", rand::random::<u64>());
        metrics.leads(false);
        Self {
            claim: Claim::new(identity.clone(), timing),
            timing,
            lease_name: format!("{}/{}", lease.namespace, lease.name),
            lease: LeaseObject::new(
                client,
                lease,
                identity,
                timing.lease,
                KubeCalls::new(metrics.clone()),
            ),
            authority: Authority::to_be_given(Arc::clone(&clock)),
            clock,
            metrics,
            shutdown,
            told: None,
        }
    }

    /// What the election decides on.
    pub fn authority(&self) -> Authority {
        self.authority.clone()
    }

    /// Takes part until `work` is done, and gives the Lease back then. Work that failed may have left writers behind:
    /// the Lease expires by itself.
    ///
    /// # Errors
    /// That of the work; or the Lease was lost, or cannot be had.
    pub async fn during(mut self, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        let done = tokio::select! {
            failure = self.run() => {
                self.authority.take_back();
                self.metrics.leads(false);
                self.shutdown.start();
                return Err(failure);
            }
            done = work => done,
        };
        self.authority.take_back();
        if done.is_ok() && tokio::time::timeout(RELEASE, self.release()).await.is_err() {
            tracing::warn!("the lease could not be given back in time; it expires");
        }
        done
    }

    /// Until the Lease is lost.
    async fn run(&mut self) -> Failure {
        loop {
            let mut pause = self.timing.pause(rand::random());
            match self.claim.next(self.clock.monotonic()) {
                Move::Lost => return self.lost(),
                Move::Wait => {
                    self.stand_by();
                    self.claim.doubt();
                }
                Move::Read => match self.attempt(self.lease.read()).await {
                    Ok(record) => {
                        self.claim.saw(record, self.clock.monotonic());
                        pause = Duration::ZERO;
                    }
                    Err(error) => {
                        if let Some(failure) = self.hopeless(&error) {
                            return failure;
                        }
                        tracing::warn!(error = %ErrorChain(&error), "the lease could not be read");
                    }
                },
                step @ (Move::Create | Move::Take { .. } | Move::Renew { .. }) => {
                    // Before it is sent: the time of a leader must not begin later than that of those who watch it.
                    let sent = self.clock.monotonic();
                    match self.attempt(self.write(&step)).await {
                        Ok(record) => self.lead(record, sent),
                        Err(error) => {
                            if let Some(failure) = self.hopeless(&error) {
                                return failure;
                            }
                            self.claim.doubt();
                            if !error.is_race() {
                                tracing::warn!(error = %ErrorChain(&error), "the lease could not be written");
                            }
                        }
                    }
                }
            }
            tokio::time::sleep(self.within_reign(pause)).await;
        }
    }

    async fn write(&self, step: &Move) -> Result<Record, KubeError> {
        let now = self.now();
        match step {
            Move::Take { version, transitions } => self.lease.take(version, *transitions, now).await,
            Move::Renew { version } => self.lease.renew(version, now).await,
            Move::Create | Move::Read | Move::Wait | Move::Lost => self.lease.create(now).await,
        }
    }

    /// One call, which takes no longer than the leadership lasts that it may be about.
    async fn attempt<T>(&self, call: impl Future<Output = Result<T, KubeError>>) -> Result<T, MoveError> {
        let limit = self.within_reign(self.timing.call());
        let answer = tokio::time::timeout(limit, call).await;
        Ok(answer.map_err(|_elapsed| MoveError::Slow)??)
    }

    /// This, or less where the leadership ends before.
    fn within_reign(&self, time: Duration) -> Duration {
        let left = self.claim.until();
        let left = left.map(|until| until.saturating_sub(self.clock.monotonic()));
        left.map_or(time, |left| left.min(time))
    }

    fn lead(&mut self, record: Record, sent: Duration) {
        let is_new = self.claim.until().is_none();
        self.claim.wrote(record, sent);
        if let Some(until) = self.claim.until() {
            self.authority.give_until(until);
        }
        if is_new {
            self.metrics.leads(true);
            tracing::info!(
                lease = self.lease_name,
                identity = self.claim.identity(),
                "this process is the leader"
            );
        }
    }

    fn stand_by(&mut self) {
        let holder = self.claim.holder().map(str::to_owned);
        if holder != self.told {
            tracing::info!(
                lease = self.lease_name,
                identity = self.claim.identity(),
                holder,
                "standing by: another process is the leader"
            );
            self.told = holder;
        }
    }

    /// A role that does not allow it is told at once. A leader goes on: its role was enough a moment ago.
    fn hopeless(&self, error: &MoveError) -> Option<Failure> {
        match error {
            MoveError::Call(error) if matches!(error.code(), 401 | 403) && self.claim.until().is_none() => {
                let what = format!(
                    "the API server does not let this process use the lease {}",
                    self.lease_name
                );
                Some(Failure::runtime(what).source(error.to_string()).remedy(
                    "allow its ServiceAccount to create, get and patch leases in that namespace, \
                     or run one replica without --leader-elect",
                ))
            }
            MoveError::Call(_) | MoveError::Slow => None,
        }
    }

    fn lost(&self) -> Failure {
        let why = match self.claim.holder() {
            Some(holder) if holder != self.claim.identity() => format!("{holder} holds it"),
            Some(_) | None => format!("it was not renewed within {:?}", self.timing.renew_deadline),
        };
        Failure::runtime(format!("the lease {} is lost: {why}", self.lease_name)).remedy(
            "another replica goes on, and this one starts anew; if it happens again, see whether the API server is \
             slow or this process starved of CPU",
        )
    }

    /// Gives the Lease back, if this process holds it.
    async fn release(&mut self) {
        for _try in 0..RELEASE_TRIES {
            let released = match self.lease.read().await {
                Ok(Some(record)) if record.holder.as_deref() == Some(self.claim.identity()) => {
                    self.lease.release(&record.version, self.now()).await
                }
                Ok(_) => return,
                Err(error) => Err(error),
            };
            match released {
                Ok(_record) => {
                    self.metrics.leads(false);
                    tracing::info!(lease = self.lease_name, "the lease is given back");
                    return;
                }
                Err(error) => {
                    tracing::debug!(error = %ErrorChain(&error), "the lease could not be given back");
                }
            }
        }
    }

    fn now(&self) -> Timestamp {
        // The clock of a machine is well within the years 1 to 9999.
        Timestamp::try_from(self.clock.now()).unwrap_or_default()
    }
}
