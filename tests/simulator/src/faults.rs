//! Faults: which requests one hits, and how often. What it does to them is [`Action`].
//!
//! The list is ordered and the first match wins. A fault counts the requests that match it, so that it can start at
//! the n-th or stop after some; its own window in simulated time makes it an outage.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Operation, Service, chance::Chance, request::Subject};

mod action;
mod shaping;

pub use action::{
    Action, BodyVariant, CloseAt, ExpiryAs, HangAt, JsonQuirk, RetryAfter, RetryAfterText, TokenFault,
};
pub(crate) use action::{Stage, Throttle};
pub(crate) use shaping::{quirky_json, variant_body};

/// One fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Name under which it is counted and logged; given by the simulator if empty.
    #[serde(default)]
    pub id: String,
    /// Which requests it hits.
    #[serde(default, rename = "match")]
    pub matching: Match,
    /// How often at most.
    #[serde(default)]
    pub times: Option<u64>,
    /// Hits a matching request with this probability.
    #[serde(default = "always")]
    pub probability: f64,
    /// Not before, in simulated time.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Not from then on, in simulated time.
    #[serde(default)]
    pub to: Option<Timestamp>,
    /// What it does.
    pub action: Action,
}

/// Which requests a fault hits. What is absent does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// Of this service.
    pub service: Option<Service>,
    /// Of this kind.
    pub op: Option<Operation>,
    /// Entra tenant in the path, or `tenant` of an exchange.
    pub tenant: Option<String>,
    /// Client ID; for a registry, `appid` of the token presented.
    pub client_id: Option<String>,
    /// Host asked for.
    pub host: Option<String>,
    /// `grant_type` of the form.
    pub grant_type: Option<String>,
    /// Only these of the matching requests, counted from 1.
    pub nth: Vec<u64>,
    /// Only matching requests after so many.
    pub after: u64,
}

/// The faults in force.
#[derive(Default)]
pub(crate) struct FaultBook(Mutex<Vec<Entry>>);

/// A fault that was picked for a request.
#[derive(Debug, Clone)]
pub(crate) struct Picked {
    pub(crate) id: String,
    pub(crate) action: Action,
    /// When it first hit, in the machine's time: what a `Retry-After` counts down from.
    pub(crate) first_hit_at: Timestamp,
}

struct Entry {
    fault: Fault,
    matched: u64,
    hits: u64,
    first_hit_at: Option<Timestamp>,
}

/// A fault that can never hit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Before TLS nothing but the service is known, before HTTP nothing but the host.
    #[error("a fault at {at} cannot match on {member}, which is not known by then")]
    TooEarly {
        /// Where it acts.
        at: &'static str,
        /// What it wants to match.
        member: &'static str,
    },
    /// The name is taken.
    #[error("fault {0:?} is there already")]
    Duplicate(String),
}

impl Fault {
    /// A fault that hits everything, always.
    pub fn new(action: Action) -> Self {
        Self {
            id: String::new(),
            matching: Match::default(),
            times: None,
            probability: always(),
            from: None,
            to: None,
            action,
        }
    }

    /// The service is gone between two instants: connections are closed as soon as they are made.
    pub fn outage(service: Service, from: Option<Timestamp>, to: Option<Timestamp>) -> Self {
        Self {
            from,
            to,
            ..Self::new(Action::Close { at: CloseAt::Accept }).on_service(service)
        }
    }

    /// Names it.
    #[must_use]
    pub fn named(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }

    /// Only requests of this service.
    #[must_use]
    pub fn on_service(mut self, service: Service) -> Self {
        self.matching.service = Some(service);
        self
    }

    /// Only requests of this kind.
    #[must_use]
    pub fn on(mut self, service: Service, operation: Operation) -> Self {
        self.matching.service = Some(service);
        self.matching.op = Some(operation);
        self
    }

    /// Only requests for this host.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.matching.host = Some(host.to_owned());
        self
    }

    /// Only requests of this client ID.
    #[must_use]
    pub fn client_id(mut self, client_id: &str) -> Self {
        self.matching.client_id = Some(client_id.to_owned());
        self
    }

    /// Only the n-th matching requests, counted from 1.
    #[must_use]
    pub fn nth(mut self, nth: &[u64]) -> Self {
        self.matching.nth = nth.to_vec();
        self
    }

    /// At most so often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    fn check(&self) -> Result<(), FaultError> {
        let wanted = &self.matching;
        let later: [(&'static str, bool); 4] = [
            ("op", wanted.op.is_some()),
            ("tenant", wanted.tenant.is_some()),
            ("client_id", wanted.client_id.is_some()),
            ("grant_type", wanted.grant_type.is_some()),
        ];
        let at = match self.action.stage() {
            Stage::Request => return Ok(()),
            Stage::Accept if wanted.host.is_some() => {
                return Err(FaultError::TooEarly {
                    at: "accept",
                    member: "host",
                });
            }
            Stage::Accept => "accept",
            Stage::Tls => "tls",
        };
        later
            .into_iter()
            .find(|(_, present)| *present)
            .map_or(Ok(()), |(member, _)| Err(FaultError::TooEarly { at, member }))
    }
}

impl Match {
    fn matches(&self, service: Service, operation: Operation, subject: &Subject) -> bool {
        let same = |wanted: &Option<String>, found: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| {
                found
                    .as_ref()
                    .is_some_and(|found| found.eq_ignore_ascii_case(wanted))
            })
        };
        self.service.is_none_or(|wanted| wanted == service)
            && self.op.is_none_or(|wanted| wanted == operation)
            && same(&self.tenant, &subject.tenant)
            && same(&self.client_id, &subject.client_id)
            && same(&self.host, &subject.host)
            && same(&self.grant_type, &subject.grant_type)
    }
}

impl FaultBook {
    /// Adds a fault at the end of the list and returns its name.
    pub(crate) fn add(&self, mut fault: Fault) -> Result<String, FaultError> {
        fault.check()?;
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.id.is_empty() {
            fault.id = format!("f{}", entries.len() + 1);
        }
        if entries.iter().any(|entry| entry.fault.id == fault.id) {
            return Err(FaultError::Duplicate(fault.id));
        }
        let id = fault.id.clone();
        entries.push(Entry {
            fault,
            matched: 0,
            hits: 0,
            first_hit_at: None,
        });
        Ok(id)
    }

    /// Removes every fault.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The first fault that hits. `now` is simulated time, `real` the machine's.
    pub(crate) fn pick(
        &self,
        stage: Stage,
        (service, operation): (Service, Operation),
        subject: &Subject,
        (now, real): (Timestamp, Timestamp),
        chance: &Chance,
    ) -> Option<Picked> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .iter_mut()
            .filter(|entry| entry.fault.action.stage() == stage)
            .filter(|entry| entry.fault.matching.matches(service, operation, subject))
            .find_map(|entry| entry.hit(now, real, chance))
    }
}

impl Entry {
    /// Counts a matching request and tells whether the fault hits it.
    fn hit(&mut self, now: Timestamp, real: Timestamp, chance: &Chance) -> Option<Picked> {
        let Fault {
            matching,
            times,
            probability,
            from,
            to,
            ..
        } = &self.fault;
        let in_window = from.is_none_or(|from| from <= now) && to.is_none_or(|to| now < to);
        if !in_window {
            return None;
        }
        self.matched += 1;
        let wanted = (matching.nth.is_empty() || matching.nth.contains(&self.matched))
            && self.matched > matching.after
            && times.is_none_or(|times| self.hits < times)
            && (*probability >= 1.0 || chance.coin() < *probability);
        if !wanted {
            return None;
        }
        self.hits += 1;
        let first_hit_at = *self.first_hit_at.get_or_insert(real);
        Some(Picked {
            id: self.fault.id.clone(),
            action: self.fault.action.clone(),
            first_hit_at,
        })
    }
}

const fn always() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: (Service, Operation) = (Service::Acr, Operation::Exchange);

    fn picks(fault: Fault, calls: usize) -> Vec<bool> {
        let book = FaultBook::default();
        book.add(fault).unwrap();
        let chance = Chance::seeded(7);
        let at = Timestamp::from_second(1_000).unwrap();
        let subject = Subject {
            host: Some("a.azurecr.io".to_owned()),
            ..Subject::default()
        };
        (0..calls)
            .map(|_| {
                book.pick(Stage::Request, CALL, &subject, (at, at), &chance)
                    .is_some()
            })
            .collect()
    }

    fn status() -> Fault {
        Fault::new(Action::status(503))
    }

    #[test]
    fn fault_nth_after_and_times_count_matching_calls() {
        assert_eq!(picks(status().nth(&[1, 3]), 4), [true, false, true, false]);
        assert_eq!(picks(status().times(2), 4), [true, true, false, false]);
        let mut after = status();
        after.matching.after = 2;
        assert_eq!(picks(after, 4), [false, false, true, true]);
    }

    #[test]
    fn fault_hits_only_what_matches() {
        assert_eq!(picks(status().host("A.azurecr.io"), 1), [true]);
        assert_eq!(picks(status().host("b.azurecr.io"), 1), [false]);
        assert_eq!(picks(status().on(Service::Acr, Operation::Token), 1), [false]);
        assert_eq!(picks(status().on(Service::Acr, Operation::Exchange), 1), [true]);
        assert_eq!(picks(status().client_id("c"), 1), [false]);
    }

    #[test]
    fn fault_window_is_half_open() {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        assert_eq!(
            picks(
                Fault {
                    from: at(1_000),
                    to: at(1_001),
                    ..status()
                },
                1
            ),
            [true]
        );
        assert_eq!(
            picks(
                Fault {
                    to: at(1_000),
                    ..status()
                },
                1
            ),
            [false]
        );
        assert_eq!(
            picks(
                Fault {
                    from: at(1_001),
                    ..status()
                },
                1
            ),
            [false]
        );
    }

    #[test]
    fn fault_probability_is_seeded() {
        let half = || Fault {
            probability: 0.5,
            ..status()
        };
        let first = picks(half(), 64);
        assert_eq!(first, picks(half(), 64));
        assert!(first.contains(&true) && first.contains(&false));
    }

    #[test]
    fn fault_first_match_wins() {
        let book = FaultBook::default();
        book.add(status().named("one").times(1)).unwrap();
        book.add(status().named("two")).unwrap();
        let at = Timestamp::from_second(0).unwrap();
        let chance = Chance::seeded(0);
        let id = || {
            book.pick(Stage::Request, CALL, &Subject::default(), (at, at), &chance)
                .map(|hit| hit.id)
        };
        assert_eq!((id(), id()), (Some("one".to_owned()), Some("two".to_owned())));
    }

    #[test]
    fn fault_too_early_for_its_match_is_refused() {
        let book = FaultBook::default();
        let accept = Fault::new(Action::Hang { at: HangAt::Accept }).host("a");
        assert_eq!(
            book.add(accept),
            Err(FaultError::TooEarly {
                at: "accept",
                member: "host"
            })
        );
        let tls = Fault::new(Action::Hang { at: HangAt::Tls }).on(Service::Acr, Operation::Exchange);
        assert_eq!(
            book.add(tls),
            Err(FaultError::TooEarly {
                at: "tls",
                member: "op"
            })
        );
        assert_eq!(book.add(status().named("x")), Ok("x".to_owned()));
        assert_eq!(
            book.add(status().named("x")),
            Err(FaultError::Duplicate("x".to_owned()))
        );
    }
}
