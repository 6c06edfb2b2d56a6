//! What every pass shares: clients, stores, memory, limits, the clock.

use std::{
    fmt,
    sync::{Arc, Once},
};

use client::BrokerClient;
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{Client, core::PartialObjectMeta, runtime::reflector::Store};
use runtime::{Clock, Shutdown, error_chain::ErrorChain};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    allowed_servers::AllowedServers,
    events::Announcer,
    guard_rails::GuardRails,
    kube_calls::{KubeCalls, KubeError},
    leadership::Authority,
    links::LinkKeeper,
    memory::Memory,
    metrics::Metrics,
    news::News,
    seldom::Seldom,
    steady,
    turns::{Turn, Turns, Urgency},
};

/// Questions to the broker that are open at a time. Each holds a few KiB; the broker has limits of its own.
const MAX_QUESTIONS: usize = 512;

/// Shared by all passes.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The broker.
    pub broker: BrokerClient,
    /// Audience of the tokens that are minted for workload identities.
    pub token_audience: String,
    /// The registries that tokens are asked for.
    pub allowed_servers: AllowedServers,
    /// Pull Secrets.
    pub secrets: Secrets,
    /// The links of ServiceAccounts.
    pub links: LinkKeeper,
    /// What is remembered of each binding.
    pub memory: Arc<Memory>,
    /// Tells passes that wait of changes of their bindings.
    pub news: Arc<News>,
    /// How much happens at a time.
    pub limits: Limits,
    /// Whether this process does the work, or stands by.
    pub authority: Authority,
    /// How calls to the API server are made.
    pub calls: KubeCalls,
    /// Takes events.
    pub events: Announcer,
    /// Counts.
    pub metrics: Metrics,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The end of the process.
    pub shutdown: Shutdown,
    /// Whether it was told that the installed CRD is an older one.
    pub older_crd: Once,
    /// Statuses that could not be written: then the log is all that tells.
    pub unwritten: Seldom,
}

/// How this process knows pull Secrets.
pub enum Secrets {
    /// As the watch shows them, metadata only.
    Watched(Store<PartialObjectMeta<Secret>>),
    /// Not at all: it may only write them. Its guard rails say whether it may do so by force.
    Unread(Box<GuardRails>),
}

impl Secrets {
    /// Those of the watch, or none where there is no watch of them.
    pub fn of(watched: Option<Store<PartialObjectMeta<Secret>>>, guard_rails: &GuardRails) -> Self {
        watched.map_or_else(|| Self::Unread(Box::new(guard_rails.clone())), Self::Watched)
    }
}

/// Limits that never wait for each other in a circle: a question takes a worker for a moment while it is open, a
/// worker never waits for a question.
///
/// That is why a registry that never answers delays nobody: a pass gives its worker back before it asks the broker
/// and takes one again for writing down the answer. As long as fewer than `MAX_QUESTIONS` questions hang, other
/// bindings find a free slot; and linking needs no slot at all.
///
/// Half of the workers only read and link: in a burst, the writes for the first bindings do not hold up the links of
/// the last, for which Pods may be waiting.
///
/// Questions are put in the order of their urgency, so that after an outage, or a restart that finds thousands due, those
/// without a credential and those whose credential is about to expire do not wait for the others.
pub struct Limits {
    first: Semaphore,
    rest: Semaphore,
    questions: Turns,
}

impl Context {
    /// Tells, once, that the installed CRD does not keep all of the status.
    pub fn tell_of_an_older_crd(&self) {
        self.older_crd.call_once(|| {
            tracing::warn!(
                "the installed CustomResourceDefinition does not know conditions, so bindings do not show them: \
                 install those of `syncer crd`"
            );
        });
    }

    /// Tells, now and then, that a status could not be written.
    pub fn tell_of_an_unwritten_status(&self, error: &KubeError) {
        if let Some(kept_back) = self.unwritten.is_due(self.now()) {
            let error = ErrorChain(error);
            tracing::warn!(%error, kept_back, "the status of a binding could not be written, and is tried again");
        }
    }

    /// The current time of day. What is due for a binding is decided by its [`crate::steady::Steady`] time.
    pub fn now(&self) -> Timestamp {
        steady::time_of_day(self.clock.moment())
    }
}

impl Limits {
    /// `workers` passes at a time do Kubernetes work; at least two, one of each kind.
    pub fn new(workers: u16) -> Self {
        let rest = usize::from(workers / 2).max(1);
        let first = usize::from(workers).saturating_sub(rest).max(1);
        Self {
            first: Semaphore::new(first),
            rest: Semaphore::new(rest),
            questions: Turns::new(MAX_QUESTIONS),
        }
    }

    /// Waits for a worker for reading and linking. None only if the limits were closed, which nobody does.
    pub async fn first_worker(&self) -> Option<SemaphorePermit<'_>> {
        self.first.acquire().await.ok()
    }

    /// Waits for a worker for everything else. Not to be called with a worker in hand.
    pub async fn worker(&self) -> Option<SemaphorePermit<'_>> {
        self.rest.acquire().await.ok()
    }

    /// Waits for the turn of a question. Not to be called with a worker in hand.
    pub async fn question(&self, urgency: Urgency) -> Turn {
        self.questions.take(urgency).await
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
