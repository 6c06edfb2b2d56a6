//! What every pass shares: clients, stores, memory, limits, the clock.

use std::{fmt, sync::Arc};

use client::BrokerClient;
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Client,
    core::PartialObjectMeta,
    runtime::{events::Recorder, reflector::Store},
};
use runtime::{Clock, Shutdown};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{kube_calls::KubeCalls, links::LinkKeeper, memory::Memory, metrics::Metrics};

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
    /// Pull Secrets, metadata only.
    pub secrets: Store<PartialObjectMeta<Secret>>,
    /// The links of ServiceAccounts.
    pub links: LinkKeeper,
    /// What is remembered of each binding.
    pub memory: Memory,
    /// How much happens at a time.
    pub limits: Limits,
    /// How calls to the API server are made.
    pub calls: Arc<KubeCalls>,
    /// Publishes events.
    pub recorder: Recorder,
    /// Counts.
    pub metrics: Metrics,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The end of the process.
    pub shutdown: Shutdown,
}

/// Two limits that never wait for each other in a circle: a question takes a worker for a moment while it is open,
/// a worker never waits for a question.
///
/// That is why a registry that never answers delays nobody: a pass gives its worker back before it asks the broker
/// and takes one again for writing down the answer. As long as fewer than [`MAX_QUESTIONS`] questions hang, other
/// bindings find a free slot; and linking needs no slot at all.
pub struct Limits {
    workers: Semaphore,
    questions: Semaphore,
}

impl Context {
    /// The current time.
    pub fn now(&self) -> Timestamp {
        // The clock of a machine is well within the years 1 to 9999.
        Timestamp::try_from(self.clock.now()).unwrap_or_default()
    }
}

impl Limits {
    /// `workers` passes at a time do Kubernetes work.
    pub fn new(workers: u16) -> Self {
        Self {
            workers: Semaphore::new(usize::from(workers)),
            questions: Semaphore::new(MAX_QUESTIONS),
        }
    }

    /// Waits for a worker. None only if the limits were closed, which nobody does.
    pub async fn worker(&self) -> Option<SemaphorePermit<'_>> {
        self.workers.acquire().await.ok()
    }

    /// Waits for a slot for a question. Not to be called with a worker in hand.
    pub async fn question(&self) -> Option<SemaphorePermit<'_>> {
        self.questions.acquire().await.ok()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
