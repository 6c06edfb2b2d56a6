//! Numbers: how often what was called, and how much went on at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Operation, Service};

/// Everything that is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Finished calls, by all that tells them apart.
    pub calls: Vec<CallCount>,
    /// Totals of each service.
    pub services: BTreeMap<Service, ServiceCount>,
    /// Calls in flight, by service and operation.
    pub in_flight: Vec<InFlight>,
}

/// How often one kind of call ended one way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallCount {
    /// The service.
    pub service: Service,
    /// What was wanted.
    pub op: Operation,
    /// Status; none if there was no answer.
    pub status: Option<u16>,
    /// Client ID it spoke for.
    pub client_id: Option<String>,
    /// Host asked for.
    pub host: String,
    /// The fault that hit it.
    pub fault: Option<String>,
    /// How often.
    pub calls: u64,
}

/// Totals of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCount {
    /// Connections accepted.
    pub connections: u64,
    /// Body bytes received.
    pub bytes_in: u64,
    /// Body bytes sent, where the length is known beforehand.
    pub bytes_out: u64,
    /// Calls that the client gave up.
    pub aborted_by_client: u64,
}

/// Calls in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// The service.
    pub service: Service,
    /// What was wanted.
    pub op: Operation,
    /// Now.
    pub now: u64,
    /// At most, since the start or the last reset.
    pub max: u64,
}

impl Counters {
    /// Finished calls of one kind, whatever came of them.
    pub fn calls(&self, service: Service, op: Operation) -> u64 {
        self.sum(|count| count.service == service && count.op == op)
    }

    /// Finished calls of one kind that ended with this status.
    pub fn calls_with_status(&self, service: Service, op: Operation, status: u16) -> u64 {
        self.sum(|count| count.service == service && count.op == op && count.status == Some(status))
    }

    /// The most calls of one kind that were ever in flight together.
    pub fn max_in_flight(&self, service: Service, op: Operation) -> u64 {
        self.in_flight
            .iter()
            .find(|in_flight| in_flight.service == service && in_flight.op == op)
            .map_or(0, |in_flight| in_flight.max)
    }

    fn sum(&self, wanted: impl Fn(&CallCount) -> bool) -> u64 {
        self.calls
            .iter()
            .filter(|count| wanted(count))
            .map(|count| count.calls)
            .sum()
    }

    pub(super) fn of(&mut self, service: Service) -> &mut ServiceCount {
        self.services.entry(service).or_default()
    }

    pub(super) fn enter(&mut self, service: Service, op: Operation) -> u64 {
        let index = self
            .in_flight
            .iter()
            .position(|one| one.service == service && one.op == op);
        let index = index.unwrap_or_else(|| {
            self.in_flight.push(InFlight {
                service,
                op,
                now: 0,
                max: 0,
            });
            self.in_flight.len() - 1
        });
        self.in_flight.get_mut(index).map_or(1, |one| {
            one.now += 1;
            one.max = one.max.max(one.now);
            one.now
        })
    }

    pub(super) fn leave(&mut self, service: Service, op: Operation) {
        if let Some(one) = self
            .in_flight
            .iter_mut()
            .find(|one| one.service == service && one.op == op)
        {
            one.now = one.now.saturating_sub(1);
        }
    }

    pub(super) fn count(&mut self, key: CallCount) {
        match self.calls.binary_search_by(|known| {
            CallCount {
                calls: 0,
                ..known.clone()
            }
            .cmp(&key)
        }) {
            Ok(index) => {
                if let Some(known) = self.calls.get_mut(index) {
                    known.calls += 1;
                }
            }
            Err(index) => self.calls.insert(index, CallCount { calls: 1, ..key }),
        }
    }

    pub(super) fn reset(&mut self) {
        self.calls.clear();
        self.services.clear();
        self.in_flight.retain_mut(|one| {
            one.max = one.now;
            one.now > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_by_status() {
        let mut counters = Counters::default();
        let key = |status, host: &str| CallCount {
            service: Service::Acr,
            op: Operation::Exchange,
            status: Some(status),
            client_id: None,
            host: host.to_owned(),
            fault: None,
            calls: 0,
        };
        for key in [key(200, "b"), key(401, "a"), key(200, "b"), key(200, "a")] {
            counters.count(key);
        }
        assert_eq!(counters.calls(Service::Acr, Operation::Exchange), 4);
        assert_eq!(
            counters.calls_with_status(Service::Acr, Operation::Exchange, 200),
            3
        );
        assert_eq!(counters.calls(Service::Acr, Operation::Token), 0);
        assert_eq!(counters.calls.len(), 3);
    }

    #[test]
    fn counters_remember_the_most_in_flight() {
        let mut counters = Counters::default();
        counters.enter(Service::Imds, Operation::Token);
        counters.enter(Service::Imds, Operation::Token);
        counters.leave(Service::Imds, Operation::Token);
        assert_eq!(counters.max_in_flight(Service::Imds, Operation::Token), 2);
        counters.reset();
        assert_eq!(counters.max_in_flight(Service::Imds, Operation::Token), 1);
    }
}
