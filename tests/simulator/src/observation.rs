//! What can be known about a run afterwards: a log of every call with the decision behind it, counters, and
//! every secret that was handed out or came as an assertion. No secret is ever in the log; the lists of secrets
//! exist so that tests can look for leaks.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Service, clock::TimeSource, request::Request};

mod calls;
mod counters;
mod log;
mod open_call;

pub use calls::Calls;
pub use counters::{CallCount, Counters, InFlight, ServiceCount};
pub(crate) use log::sha256_hex;
pub use log::{LogEntry, SecretSeen};
pub(crate) use open_call::{CallId, OpenCall, Outcome};

/// Log entries kept; the oldest go first. A run with more than that is a benchmark, which reads counters.
const LOG_ENTRIES: usize = 100_000;

/// Issued secrets kept.
const ISSUED_SECRETS: usize = 100_000;

/// Assertions kept; the oldest go first.
const ASSERTIONS: usize = 10_000;

/// A secret that was handed out. For tests only: this is how they find leaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedSecret {
    /// `entra_access_token`, `acr_refresh_token`, `acr_access_token` or `service_account_token`.
    pub kind: String,
    /// Whom it speaks for: a client ID or a ServiceAccount.
    pub subject: String,
    /// Whom it is for.
    pub audience: String,
    /// The secret.
    pub secret: String,
}

/// Collects what happened.
pub(crate) struct Observation {
    collected: Mutex<Collected>,
    time: TimeSource,
}

#[derive(Default)]
struct Collected {
    last_seq: u64,
    last_connection: u64,
    log: VecDeque<LogEntry>,
    counters: Counters,
    issued: VecDeque<IssuedSecret>,
    assertions: VecDeque<String>,
}

impl Observation {
    /// Nothing has happened yet.
    pub(crate) fn new(time: TimeSource) -> Self {
        Self {
            collected: Mutex::default(),
            time,
        }
    }

    /// A connection was accepted. Returns its number.
    pub(crate) fn connection(&self, service: Service) -> u64 {
        let mut collected = self.lock();
        collected.counters.of(service).connections += 1;
        collected.last_connection += 1;
        collected.last_connection
    }

    /// A call has arrived. The second value is how many of its kind are in flight, itself included.
    pub(crate) fn begin(
        &self,
        request: &Request,
        connection: u64,
        bytes_in: u64,
        (sim, real): (Timestamp, Timestamp),
    ) -> (OpenCall<'_>, u64) {
        let mut collected = self.lock();
        collected.last_seq += 1;
        let seq = collected.last_seq;
        collected.counters.of(request.service).bytes_in += bytes_in;
        let in_flight = collected.counters.enter(request.service, request.operation);
        collected
            .log
            .push_back(LogEntry::new(seq, request, connection, sim, real));
        if collected.log.len() > LOG_ENTRIES {
            collected.log.pop_front();
        }
        if let Some(assertion) = request.form.get("client_assertion") {
            collected.assertions.push_back(assertion.to_owned());
            if collected.assertions.len() > ASSERTIONS {
                collected.assertions.pop_front();
            }
        }
        let id = CallId {
            seq,
            service: request.service,
            operation: request.operation,
        };
        (OpenCall::new(self, id, real), in_flight)
    }

    /// Secrets have been handed out.
    pub(crate) fn issued(&self, secrets: impl IntoIterator<Item = IssuedSecret>) {
        let mut collected = self.lock();
        for secret in secrets {
            collected.issued.push_back(secret);
            if collected.issued.len() > ISSUED_SECRETS {
                collected.issued.pop_front();
            }
        }
    }

    /// The client went away while the body was being sent.
    pub(crate) fn aborted(&self, id: CallId) {
        let mut collected = self.lock();
        collected.counters.of(id.service).aborted_by_client += 1;
        if let Some(entry) = collected.entry(id.seq) {
            entry.client_closed_early = true;
        }
    }

    /// Log entries after `since`.
    pub(crate) fn log_since(&self, since: u64) -> Vec<LogEntry> {
        self.lock()
            .log
            .iter()
            .filter(|entry| entry.seq > since)
            .cloned()
            .collect()
    }

    /// The counters.
    pub(crate) fn counters(&self) -> Counters {
        self.lock().counters.clone()
    }

    /// Every secret handed out.
    pub(crate) fn secrets(&self) -> Vec<IssuedSecret> {
        self.lock().issued.iter().cloned().collect()
    }

    /// Every assertion that came, good or bad.
    pub(crate) fn assertions(&self) -> Vec<String> {
        self.lock().assertions.iter().cloned().collect()
    }

    /// Forgets everything, except that sequence numbers go on and calls in flight stay in flight.
    pub(crate) fn reset(&self) {
        let mut collected = self.lock();
        collected.log.clear();
        collected.issued.clear();
        collected.assertions.clear();
        collected.counters.reset();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collected {
    fn entry(&mut self, seq: u64) -> Option<&mut LogEntry> {
        let index = self.log.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
        self.log.get_mut(index)
    }

    fn end(&mut self, id: CallId, duration: SignedDuration, outcome: &Outcome, aborted: bool) {
        let last_seq = self.last_seq;
        self.counters.leave(id.service, id.operation);
        let totals = self.counters.of(id.service);
        totals.bytes_out += outcome.bytes_out;
        totals.aborted_by_client += u64::from(aborted);
        let Some(entry) = self.entry(id.seq) else { return };
        entry.status = outcome.status;
        entry.trace.clone_from(&outcome.trace);
        entry.fault.clone_from(&outcome.fault);
        // A source of time that was set back makes no call shorter than nothing.
        entry.duration_ms = Some(u64::try_from(duration.as_millis()).unwrap_or_default());
        entry.ended_after = Some(last_seq);
        entry.client_closed_early = aborted;
        let key = entry.count_key();
        self.counters.count(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Operation;

    fn observation() -> Observation {
        Observation::new(Arc::new(|| Timestamp::UNIX_EPOCH))
    }

    fn begin(observation: &Observation) -> (OpenCall<'_>, u64) {
        let request = Request::sample(
            Service::Acr,
            "https://a.azurecr.io/oauth2/token",
            &[("refresh_token", "hush")],
        );
        observation.begin(&request, 1, 10, (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn call_finished_is_counted_with_its_status() {
        let observation = observation();
        let (call, in_flight) = begin(&observation);
        assert_eq!(in_flight, 1);
        call.finish(&Outcome {
            status: Some(200),
            bytes_out: 7,
            ..Outcome::default()
        });
        let counters = observation.counters();
        assert_eq!(counters.calls(Service::Acr, Operation::Token), 1);
        let totals = counters.services[&Service::Acr];
        assert_eq!(
            (totals.bytes_in, totals.bytes_out, totals.aborted_by_client),
            (10, 7, 0)
        );
        assert_eq!(observation.log_since(0)[0].status, Some(200));
    }

    #[test]
    fn call_dropped_is_aborted_and_no_longer_in_flight() {
        let observation = observation();
        let (call, _) = begin(&observation);
        call.silenced_by("f1");
        drop(call);
        let entry = &observation.log_since(0)[0];
        assert!(entry.client_closed_early && entry.status.is_none());
        assert_eq!(entry.fault.as_deref(), Some("f1"));
        assert_eq!(
            observation.counters().services[&Service::Acr].aborted_by_client,
            1
        );
        assert_eq!(begin(&observation).1, 1);
    }

    #[test]
    fn assertions_are_kept_until_reset() {
        let observation = observation();
        let url = "https://login/t1/oauth2/v2.0/token";
        let request = Request::sample(Service::Entra, url, &[("client_assertion", "hush")]);
        let now = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        drop(observation.begin(&request, 1, 10, now));
        drop(begin(&observation));
        assert_eq!(observation.assertions(), ["hush"]);
        observation.reset();
        assert!(observation.assertions().is_empty());
    }

    #[test]
    fn log_holds_no_secret() {
        let observation = observation();
        drop(begin(&observation));
        assert!(
            !serde_json::to_string(&observation.log_since(0))
                .unwrap()
                .contains("hush")
        );
    }
}
