//! Faults: which requests one hits, and how often. What it does to them is [`Action`].
//!
//! The list is ordered and the first match wins. A fault counts the requests that match it, so that it can
//! start at the n-th or stop after some; its own window in simulated time makes it an outage.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Operation, Service, request::Subject};

mod action;
mod book;
mod content;
mod retry_after;
mod shaping;

pub(crate) use action::Stage;
pub use action::{Action, CloseAt, HangAt, TlsDefect};
pub(crate) use book::{FaultBook, Picked};
pub use content::{BodyVariant, ExpiryAs, JsonQuirk, TokenFault};
pub(crate) use retry_after::Throttle;
pub use retry_after::{RetryAfter, RetryAfterText};
pub(crate) use shaping::{gzip_bomb, quirky_json, variant_body};

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
    /// Hits in turns.
    #[serde(default)]
    pub flap: Option<Flap>,
    /// Not before, in simulated time.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Not from then on, in simulated time.
    #[serde(default)]
    pub to: Option<Timestamp>,
    /// What it does.
    pub action: Action,
}

/// Turns that a fault takes: so many matching requests are let through, then so many are hit, and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flap {
    /// Let through.
    pub ok: u64,
    /// Hit.
    pub fail: u64,
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
    /// Some services have less that could fail.
    #[error("{} has no {thing} that could fail", .service.as_str())]
    Without {
        /// The service that it is to hit.
        service: Service,
        /// What that does not have.
        thing: &'static str,
    },
    /// Its turns never come.
    #[error("a flap that fails 0 times never fails: give it a higher `fail`")]
    NeverFails,
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
            flap: None,
            from: None,
            to: None,
            action,
        }
    }

    /// The service is gone between two instants: connections are closed as soon as they are made.
    pub fn outage(service: Service, from: Option<Timestamp>, to: Option<Timestamp>) -> Self {
        Self::new(Action::Close { at: CloseAt::Accept })
            .on_service(service)
            .within(from, to)
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

    /// Lets so many matching requests through, then hits so many, and again.
    #[must_use]
    pub fn flapping(mut self, ok: u64, fail: u64) -> Self {
        self.flap = Some(Flap { ok, fail });
        self
    }

    /// Only between two instants of simulated time, the second not included.
    #[must_use]
    pub fn within(mut self, from: Option<Timestamp>, to: Option<Timestamp>) -> Self {
        (self.from, self.to) = (from, to);
        self
    }

    fn check(&self) -> Result<(), FaultError> {
        let wanted = &self.matching;
        if self.flap.is_some_and(|flap| flap.fail == 0) {
            return Err(FaultError::NeverFails);
        }
        if let Some(service) = wanted.service
            && let Some(thing) = self.action.stage().missing_at(service)
        {
            return Err(FaultError::Without { service, thing });
        }
        let later: [(&'static str, bool); 4] = [
            ("op", wanted.op.is_some()),
            ("tenant", wanted.tenant.is_some()),
            ("client_id", wanted.client_id.is_some()),
            ("grant_type", wanted.grant_type.is_some()),
        ];
        let at = match self.action.stage() {
            Stage::Request | Stage::Answer => return Ok(()),
            Stage::Accept if wanted.host.is_some() => {
                return Err(FaultError::TooEarly {
                    at: "accept",
                    member: "host",
                });
            }
            Stage::Accept => "accept",
            Stage::Hello | Stage::Handshake => "tls",
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

const fn always() -> f64 {
    1.0
}
