//! All hosts, and what they share: the total of calls in flight, and a bound on what is remembered. Pure but for chance.
//!
//! Where several hosts could use a freed place, the cluster with the fewest calls in flight gets it, and in it the
//! namespace with the fewest, so that one with many hosts has no more of the total than one with few. Among equals it goes
//! to the host with the fewest, so that slow hosts do not keep all places among themselves; and then to the one that has
//! waited longest.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Outcome, Visit, Why, Withheld,
    fair_queue::Rank,
    held::Held,
    host::{Host, HostKey, Pass},
    limits::{HOSTS, HostKind, PLACES},
    retry_budget::Spent,
};
use crate::tenant::Tenant;

/// Shortest and longest time by which those who are refused together are spread when they come back.
const SHORTEST_SPREAD: Duration = Duration::from_secs(1);
const LONGEST_SPREAD: Duration = Duration::from_secs(30);

/// A call that may be made. Given back when it has ended.
#[derive(Debug)]
pub(super) struct Admission {
    visit: Visit,
    pass: Pass,
    spent: Option<Spent>,
}

/// A caller in a queue.
#[derive(Debug)]
pub(super) struct Ticket {
    host: HostKey,
    tenant: Tenant,
    rank: Rank,
}

/// Whom to tell what, once the lock is released.
pub(super) type Replies<W> = Vec<(W, Result<Admission, Withheld>)>;

/// The state of everything.
pub(super) struct Floor<W> {
    hosts: HashMap<HostKey, Host<W>>,
    /// Those with a queue.
    waiting: BTreeSet<HostKey>,
    held: Held,
    /// Those whose circuit was open when last seen.
    failing: BTreeSet<HostKey>,
    /// Calls started so far.
    turns: u64,
    /// In [0, 1).
    chance: fn() -> f64,
}

impl<W> Floor<W> {
    pub(super) fn new(chance: fn() -> f64) -> Self {
        Self {
            hosts: HashMap::new(),
            waiting: BTreeSet::new(),
            held: Held::none_of(PLACES),
            failing: BTreeSet::new(),
            turns: 0,
            chance,
        }
    }

    /// Queues a caller; `dispatch` starts whom it can.
    ///
    /// # Errors
    /// The call must not be made now.
    pub(super) fn arrive(
        &mut self,
        visit: Visit,
        reply: W,
        now: Instant,
        replies: &mut Replies<W>,
    ) -> Result<Ticket, Withheld> {
        let (key, tenant) = (visit.host.clone(), visit.attempt.tenant.clone());
        let chance = self.chance;
        if !self.hosts.contains_key(&key) && !self.make_room(now) {
            return Err(withheld(Why::NoPlace, Duration::ZERO, chance()));
        }
        let host = self
            .hosts
            .entry(key.clone())
            .or_insert_with(|| Host::new(key.0, now));
        host.used_at = now;
        let pass = host
            .check(&visit, now)
            .map_err(|(why, wait)| withheld(why, wait, chance()))?;
        let (rank, displaced) = host.enqueue(reply, visit, pass);
        if let Some(waiter) = displaced {
            replies.push((
                waiter.reply,
                Err(withheld(Why::NoPlace, host.backlog(), chance())),
            ));
        }
        self.waiting.insert(key.clone());
        Ok(Ticket {
            host: key,
            tenant,
            rank,
        })
    }

    /// Starts every call that may start.
    pub(super) fn dispatch(&mut self, now: Instant, replies: &mut Replies<W>) {
        while let Some((key, tenant)) = self.next(now) {
            let Some(host) = self.hosts.get_mut(&key) else {
                return;
            };
            if let Some((waiter, decision)) = host.start(&tenant, now, self.turns) {
                let decision = match decision {
                    Ok(spent) => {
                        self.turns += 1;
                        self.held.take(&tenant);
                        Ok(Admission {
                            visit: waiter.visit,
                            pass: waiter.pass,
                            spent,
                        })
                    }
                    Err((why, wait)) => Err(withheld(why, wait, (self.chance)())),
                };
                replies.push((waiter.reply, decision));
            }
            if !host.has_waiters() {
                self.waiting.remove(&key);
            }
        }
    }

    fn next(&self, now: Instant) -> Option<(HostKey, Tenant)> {
        self.waiting
            .iter()
            .filter_map(|key| {
                let host = self.hosts.get(key)?;
                let tenant = host.next(now, &self.held)?;
                Some((key, host, tenant))
            })
            .min_by_key(|(_, host, tenant)| (self.held.by(tenant), host.share()))
            .map(|(key, _, tenant)| (key.clone(), tenant.clone()))
    }

    /// A caller has gone, or waited long enough.
    pub(super) fn forget(&mut self, ticket: &Ticket) {
        if let Some(host) = self.hosts.get_mut(&ticket.host) {
            host.forget(&ticket.tenant, ticket.rank);
            if !host.has_waiters() {
                self.waiting.remove(&ticket.host);
            }
        }
    }

    /// What a caller is told that has waited long enough.
    pub(super) fn no_place(&self, ticket: &Ticket) -> Withheld {
        let backlog = self.hosts.get(&ticket.host).map(Host::backlog);
        withheld(Why::NoPlace, backlog.unwrap_or_default(), (self.chance)())
    }

    /// A call has ended. Returns the pause that its answer asked for, and when to come back.
    pub(super) fn leave(
        &mut self,
        admission: Admission,
        outcome: Option<Outcome>,
        now: Instant,
        replies: &mut Replies<W>,
    ) -> Option<(Duration, Withheld)> {
        let Admission { visit, pass, spent } = admission;
        self.held.free(&visit.attempt.tenant);
        let chance = self.chance;
        let host = self.hosts.get_mut(&visit.host)?;
        host.used_at = now;
        let changes = host.leave(&visit, pass, spent, outcome, now, chance());
        if host.circuit_is_open(now) {
            self.failing.insert(visit.host.clone());
        }
        for (waiter, why, wait) in changes.turned_away {
            replies.push((waiter.reply, Err(withheld(why, wait, chance()))));
        }
        if !host.has_waiters() {
            self.waiting.remove(&visit.host);
        }
        changes
            .pause
            .map(|pause| (pause, withheld(Why::Paused, pause, chance())))
    }

    /// The hosts for whose next token somebody must start to wait.
    pub(super) fn hosts_to_pump(&mut self, now: Instant) -> Vec<(HostKey, Duration)> {
        let mut found = Vec::new();
        for key in &self.waiting {
            let Some(host) = self.hosts.get(key).filter(|host| !host.is_pumped) else {
                continue;
            };
            if let Some(wait) = host.wait_for_rate(now, &self.held) {
                found.push((key.clone(), wait));
            }
        }
        for (key, _) in &found {
            if let Some(host) = self.hosts.get_mut(key) {
                host.is_pumped = true;
            }
        }
        found
    }

    /// How long to wait for the host's next token; none if nobody needs to any more.
    pub(super) fn pump_again(&mut self, key: &HostKey, now: Instant) -> Option<Duration> {
        let wait = self
            .hosts
            .get(key)
            .and_then(|host| host.wait_for_rate(now, &self.held));
        if let (None, Some(host)) = (wait, self.hosts.get_mut(key)) {
            host.is_pumped = false;
        }
        wait
    }

    /// How many hosts of each kind are not called because calls to them fail.
    pub(super) fn open_circuits(&mut self, now: Instant) -> [(HostKind, usize); HostKind::ALL.len()] {
        self.failing
            .retain(|key| self.hosts.get(key).is_some_and(|host| host.circuit_is_open(now)));
        HostKind::ALL.map(|kind| (kind, self.failing.iter().filter(|key| key.0 == kind).count()))
    }

    /// Forgets a host for a new one: of those where nobody is, a registry, one without a restraint, the longest unused.
    /// There are few others, and what they have been asked lately counts, since a new bucket is a full one.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.hosts.len() < HOSTS {
            return true;
        }
        let oldest = self
            .hosts
            .iter()
            .filter(|(_, host)| host.is_empty())
            .min_by_key(|(key, host)| {
                let is_registry = key.0 == HostKind::Registry;
                (!is_registry, host.is_restrained(now), host.used_at)
            })
            .map(|(key, _)| key.clone());
        oldest.is_some_and(|key| {
            self.failing.remove(&key);
            self.hosts.remove(&key).is_some()
        })
    }
}

/// A refusal that says when to come back: `wait`, and a part of a spread, so that not all come back in one second.
fn withheld(why: Why, wait: Duration, chance: f64) -> Withheld {
    let (earliest, spread) = match why {
        Why::Paused | Why::CircuitOpen(_) => (wait, wait / 10),
        Why::RetryBudget(_) => (wait, 2 * wait),
        // Nothing speaks for a later time but those who wait already.
        Why::NoPlace => (Duration::from_secs(1), wait),
    };
    Withheld {
        why,
        retry_after: earliest + spread.clamp(SHORTEST_SPREAD, LONGEST_SPREAD).mul_f64(chance),
    }
}

#[cfg(test)]
mod tests;
