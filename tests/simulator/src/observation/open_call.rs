//! A call between its arrival and its end, which is noted whatever that is: an answer, a fault, or the client gone.

use jiff::{SignedDuration, Timestamp};

use super::Observation;
use crate::{Operation, Service};

/// A call that is being answered. Dropped before its end, it counts as given up by the client.
pub(crate) struct OpenCall<'a> {
    observation: &'a Observation,
    id: CallId,
    arrived: Timestamp,
    finished: bool,
}

/// Which log entry a call is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallId {
    pub(super) seq: u64,
    pub(super) service: Service,
    pub(super) operation: Operation,
}

/// How a call ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) status: Option<u16>,
    pub(crate) bytes_out: u64,
    pub(crate) trace: Vec<String>,
    pub(crate) fault: Option<String>,
}

impl<'a> OpenCall<'a> {
    pub(super) fn new(observation: &'a Observation, id: CallId, arrived: Timestamp) -> Self {
        Self {
            observation,
            id,
            arrived,
            finished: false,
        }
    }

    /// Which log entry this is.
    pub(crate) fn id(&self) -> CallId {
        self.id
    }

    /// The call was answered, or ended by the simulator.
    pub(crate) fn finish(mut self, outcome: &Outcome) {
        self.finished = true;
        let duration = self.duration();
        self.observation.lock().end(self.id, duration, outcome, false);
    }

    fn duration(&self) -> SignedDuration {
        (self.observation.time)().duration_since(self.arrived)
    }

    /// The fault that is going to silence this call: a hang ends only when the client gives up.
    pub(crate) fn silenced_by(&self, fault: &str) {
        if let Some(entry) = self.observation.lock().entry(self.id.seq) {
            entry.fault = Some(fault.to_owned());
        }
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // Before the lock: a source of time may have locks of its own.
        let duration = self.duration();
        let mut collected = self.observation.lock();
        let fault = collected.entry(self.id.seq).and_then(|entry| entry.fault.clone());
        collected.end(
            self.id,
            duration,
            &Outcome {
                fault,
                ..Outcome::default()
            },
            true,
        );
    }
}
