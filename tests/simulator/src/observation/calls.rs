//! Questions to the log, for assertions: narrow it down, then ask.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

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

    /// The same among calls with the same key, which tells what one call would do for all: 1 is single flight.
    pub fn max_concurrency_per<K: Ord>(&self, key: impl Fn(&LogEntry) -> K) -> usize {
        let mut by_key: BTreeMap<K, Vec<LogEntry>> = BTreeMap::new();
        for entry in &self.0 {
            by_key.entry(key(entry)).or_default().push(entry.clone());
        }
        let most = |calls: Vec<LogEntry>| Self(calls).max_concurrency();
        by_key.into_values().map(most).max().unwrap_or_default()
    }

    /// The most that arrived in any stretch of this length, its end not included: to be held against a rate.
    pub fn max_starts_within(&self, window: SignedDuration) -> usize {
        let mut starts: Vec<Timestamp> = self.0.iter().map(|entry| entry.at_real).collect();
        // A source of time may be set back, the order of arrival is not.
        starts.sort_unstable();
        let within = |first: Timestamp| move |start: &&Timestamp| start.duration_since(first) < window;
        (0..starts.len())
            .filter_map(|index| starts.get(index..))
            .filter_map(|from| {
                from.first()
                    .map(|first| from.iter().take_while(within(*first)).count())
            })
            .max()
            .unwrap_or_default()
    }

    /// The shortest time from a 429 to the next of these calls: to be held against `Retry-After`.
    pub fn shortest_gap_after_throttle(&self) -> Option<Duration> {
        let gap = |throttled: &LogEntry| {
            let at = throttled.answered_at()?;
            let next = self
                .0
                .iter()
                .find(|entry| entry.seq > throttled.seq && !throttled.was_open_at(entry.seq))?;
            Duration::try_from(next.at_real.duration_since(at)).ok()
        };
        self.0
            .iter()
            .filter(|entry| entry.status == Some(429))
            .filter_map(gap)
            .min()
    }

    /// Every host that was sent a secret.
    pub fn hosts_with_secret(&self) -> BTreeSet<&str> {
        self.0
            .iter()
            .filter(|entry| !entry.secrets.is_empty())
            .map(|entry| entry.host.as_str())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;

    /// A call at a second, open until this many calls had arrived.
    fn call(seq: u64, second: i64, ended_after: Option<u64>, host: &str) -> LogEntry {
        let url = format!("https://{host}/oauth2/token");
        let request = Request::sample(Service::Acr, &url, &[("refresh_token", "hush")]);
        let at = Timestamp::from_second(second).unwrap();
        LogEntry {
            ended_after,
            status: ended_after.map(|_| 200),
            duration_ms: ended_after.map(|_| 0),
            ..LogEntry::new(seq, &request, 0, at, at)
        }
    }

    #[test]
    fn concurrency_goes_by_order_and_not_by_time() {
        let all_at_once = |ends: [Option<u64>; 3]| {
            let ends = ends.into_iter().zip(1..);
            Calls::new(ends.map(|(end, seq)| call(seq, 5, end, "a")).collect()).max_concurrency()
        };
        assert_eq!(all_at_once([Some(1), Some(2), Some(3)]), 1);
        assert_eq!(all_at_once([Some(2), Some(2), Some(3)]), 2);
        assert_eq!(all_at_once([Some(3), Some(3), Some(3)]), 3);
        assert_eq!(all_at_once([None, Some(2), None]), 2, "open still");
    }

    #[test]
    fn concurrency_per_key_counts_each_key_alone() {
        let calls = Calls::new(vec![
            call(1, 0, Some(3), "a"),
            call(2, 0, Some(3), "b"),
            call(3, 0, Some(3), "b"),
        ]);
        assert_eq!(calls.max_concurrency(), 3);
        assert_eq!(calls.max_concurrency_per(|entry| entry.host.clone()), 2);
        let single = calls.host("a");
        assert_eq!(single.max_concurrency_per(|entry| entry.host.clone()), 1);
    }

    #[test]
    fn starts_are_counted_in_the_busiest_stretch() {
        let seconds = [0, 4, 5, 9, 10, 30];
        let calls = seconds
            .iter()
            .zip(1..)
            .map(|(second, seq)| call(seq, *second, Some(seq), "a"));
        let calls = Calls::new(calls.collect());
        assert_eq!(calls.max_starts_within(SignedDuration::from_secs(1)), 1);
        assert_eq!(calls.max_starts_within(SignedDuration::from_secs(6)), 3);
        assert_eq!(
            calls.max_starts_within(SignedDuration::from_secs(5)),
            2,
            "its end does not count"
        );
        assert_eq!(
            Calls::new(Vec::new()).max_starts_within(SignedDuration::from_secs(1)),
            0
        );
    }

    #[test]
    fn gap_after_throttle_is_the_shortest_to_a_call_that_came_after_it() {
        let throttled = |entry| LogEntry {
            status: Some(429),
            ..entry
        };
        let calls = Calls::new(vec![
            throttled(call(1, 0, Some(2), "a")),
            call(2, 0, Some(2), "a"),
            throttled(call(3, 7, Some(3), "a")),
            call(4, 10, Some(4), "a"),
        ]);
        assert_eq!(calls.shortest_gap_after_throttle(), Some(Duration::from_secs(3)));
        assert_eq!(calls.status(200).shortest_gap_after_throttle(), None);
    }

    #[test]
    fn secrets_are_told_by_host() {
        let calls = Calls::new(vec![call(1, 0, Some(1), "a"), call(2, 0, Some(2), "b")]);
        assert_eq!(calls.hosts_with_secret(), BTreeSet::from(["a", "b"]));
        assert!(calls.host("c").with_secret().is_empty());
    }
}
