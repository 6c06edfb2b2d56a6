//! The faults in force, and which one hits a request: the first of the list that matches.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::{Action, Fault, FaultError, Flap, Stage};
use crate::{Operation, Service, chance::Chance, request::Subject};

/// The faults in force.
#[derive(Default)]
pub(crate) struct FaultBook(Mutex<Vec<Entry>>);

/// A fault that was picked for a request.
#[derive(Debug, Clone)]
pub(crate) struct Picked {
    pub(crate) id: String,
    pub(crate) action: Action,
    /// When it first hit, in the time of the source: what a `Retry-After` counts down from.
    pub(crate) first_hit_at: Timestamp,
}

struct Entry {
    fault: Fault,
    matched: u64,
    hits: u64,
    first_hit_at: Option<Timestamp>,
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

    /// The first fault of these stages that hits. `now` is simulated time, `real` the source's.
    pub(crate) fn pick(
        &self,
        stages: &[Stage],
        (service, operation): (Service, Operation),
        subject: &Subject,
        (now, real): (Timestamp, Timestamp),
        chance: &Chance,
    ) -> Option<Picked> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .iter_mut()
            .filter(|entry| stages.contains(&entry.fault.action.stage()))
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
            flap,
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
            && flap.is_none_or(|Flap { ok, fail }| (self.matched - 1) % ok.saturating_add(fail).max(1) >= ok)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CloseAt, HangAt, TlsDefect};

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
                book.pick(&[Stage::Request], CALL, &subject, (at, at), &chance)
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
    fn fault_flapping_takes_turns() {
        let flapping = picks(status().flapping(2, 1), 7);
        assert_eq!(flapping, [false, false, true, false, false, true, false]);
        assert_eq!(picks(status().flapping(0, 1), 2), [true, true]);
        let never = FaultBook::default().add(status().flapping(1, 0));
        assert_eq!(never, Err(FaultError::NeverFails));
    }

    #[test]
    fn fault_without_what_it_spoils_is_refused() {
        let book = FaultBook::default();
        let refused = |fault: Fault| book.add(fault).unwrap_err().to_string();
        let close = |at| Fault::new(Action::Close { at });
        let hello = close(CloseAt::Tls).on_service(Service::Imds);
        assert_eq!(refused(hello), "imds has no TLS that could fail");
        let expired = Fault::new(Action::Tls {
            defect: TlsDefect::Expired,
        });
        let expired = expired.on_service(Service::Proxy);
        assert_eq!(refused(expired), "proxy has no TLS that could fail");
        let body = close(CloseAt::MidBody).on_service(Service::Proxy);
        assert_eq!(refused(body), "proxy has no answer of its own that could fail");
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
            book.pick(&[Stage::Request], CALL, &Subject::default(), (at, at), &chance)
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
