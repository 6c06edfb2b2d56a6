//! Questions to the log, for assertions: narrow it down, then ask.

use std::time::Duration;

use jiff::Timestamp;

use super::LogEntry;
use crate::{Operation, Service};

/// Some calls of the log, in order of arrival.
#[derive(Debug, Clone)]
pub struct Calls(Vec<LogEntry>);

impl Calls {
    /// All of these.
    pub fn new(entries: Vec<LogEntry>) -> Self {
        Self(entries)
    }

    /// Those that meet a condition.
    #[must_use]
    pub fn filter(mut self, wanted: impl FnMut(&LogEntry) -> bool) -> Self {
        self.0.retain(wanted);
        self
    }

    /// Those of one kind.
    #[must_use]
    pub fn of(self, service: Service, op: Operation) -> Self {
        self.filter(|entry| entry.service == service && entry.op == op)
    }

    /// Those to one service.
    #[must_use]
    pub fn to(self, service: Service) -> Self {
        self.filter(|entry| entry.service == service)
    }

    /// Those for one host.
    #[must_use]
    pub fn host(self, host: &str) -> Self {
        self.filter(|entry| entry.host.eq_ignore_ascii_case(host))
    }

    /// Those that spoke for one client ID.
    #[must_use]
    pub fn client_id(self, client_id: &str) -> Self {
        self.filter(|entry| entry.client_id.as_deref() == Some(client_id))
    }

    /// Those answered with this status.
    #[must_use]
    pub fn status(self, status: u16) -> Self {
        self.filter(|entry| entry.status == Some(status))
    }

    /// Those that carried a secret: none may go to a host that is not trusted.
    #[must_use]
    pub fn with_secret(self) -> Self {
        self.filter(|entry| !entry.secrets.is_empty())
    }

    /// Those that arrived later, by the clock of [`LogEntry::at_real`].
    #[must_use]
    pub fn after(self, instant: Timestamp) -> Self {
        self.filter(|entry| entry.at_real > instant)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries.
    pub fn entries(&self) -> &[LogEntry] {
        &self.0
    }

    /// The most that were open together.
    pub fn max_concurrency(&self) -> usize {
        // By order of arrival and not by time, which may stand still.
        let mut open: Vec<&LogEntry> = Vec::new();
        let mut most = 0;
        for entry in &self.0 {
            open.retain(|earlier| earlier.was_open_at(entry.seq));
            open.push(entry);
            most = most.max(open.len());
        }
        most
    }

    /// The shortest time from a 429 to the next of these calls: to be held against `Retry-After`.
    pub fn shortest_gap_after_throttle(&self) -> Option<Duration> {
        let gap = |throttled: &LogEntry| {
            let at = throttled.answered_at()?;
            let next = self
                .0
                .iter()
                .find(|entry| !throttled.was_open_at(entry.seq) && entry.seq > throttled.seq)?;
            Duration::try_from(next.at_real.duration_since(at)).ok()
        };
        self.0
            .iter()
            .filter(|entry| entry.status == Some(429))
            .filter_map(gap)
            .min()
    }
}
