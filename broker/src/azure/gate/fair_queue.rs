//! Who goes next, where callers must wait for a host: tenants in turn, and within a tenant the most urgent first.
//!
//! So a tenant that asks a thousand times takes no more turns than one that asks once (guarantee U6), and after a cold
//! start the tokens that end first are renewed first (U8).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::SystemTime,
};

use crate::tenant::Tenant;

/// Place in a tenant's line. What expires first goes first, after those who hold nothing; then who came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    held_until: Option<SystemTime>,
    arrival: u64,
}

/// The callers that wait for one host.
pub(super) struct FairQueue<W> {
    bound: usize,
    lines: HashMap<Tenant, BTreeMap<Rank, W>>,
    /// Those with a line; the front one is next.
    turns: VecDeque<Tenant>,
    len: usize,
    arrivals: u64,
}

impl<W> FairQueue<W> {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            lines: HashMap::new(),
            turns: VecDeque::new(),
            len: 0,
            arrivals: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a waiter. If that is one too many, the least urgent one of the longest line goes, which may be this one.
    pub(super) fn push(
        &mut self,
        tenant: &Tenant,
        held_until: Option<SystemTime>,
        waiter: W,
    ) -> (Rank, Option<W>) {
        self.arrivals += 1;
        let rank = Rank {
            held_until,
            arrival: self.arrivals,
        };
        let line = self.lines.entry(tenant.clone()).or_insert_with(|| {
            self.turns.push_back(tenant.clone());
            BTreeMap::new()
        });
        line.insert(rank, waiter);
        self.len += 1;
        let displaced = if self.len > self.bound {
            self.drop_one()
        } else {
            None
        };
        (rank, displaced)
    }

    /// The first in turn of those who may.
    pub(super) fn next(&self, may: impl Fn(&Tenant) -> bool) -> Option<&Tenant> {
        self.turns.iter().find(|tenant| may(tenant))
    }

    /// Takes the most urgent waiter of `tenant`, whose next turn comes after everybody else's.
    pub(super) fn pop(&mut self, tenant: &Tenant) -> Option<W> {
        let line = self.lines.get_mut(tenant)?;
        let (_, waiter) = line.pop_first()?;
        let is_empty = line.is_empty();
        self.len -= 1;
        self.leave_turns(tenant);
        if is_empty {
            self.lines.remove(tenant);
        } else {
            self.turns.push_back(tenant.clone());
        }
        Some(waiter)
    }

    /// Takes out one that no longer waits.
    pub(super) fn remove(&mut self, tenant: &Tenant, rank: Rank) -> Option<W> {
        let waiter = self.lines.get_mut(tenant)?.remove(&rank)?;
        self.len -= 1;
        self.close_if_empty(tenant);
        Some(waiter)
    }

    /// Takes out all that `matches`.
    pub(super) fn drain(&mut self, matches: impl Fn(&W) -> bool) -> Vec<W> {
        let mut drained = Vec::new();
        let tenants: Vec<Tenant> = self.turns.iter().cloned().collect();
        for tenant in tenants {
            if let Some(line) = self.lines.get_mut(&tenant) {
                drained.extend(
                    line.extract_if(.., |_, waiter| matches(waiter))
                        .map(|(_, waiter)| waiter),
                );
            }
            self.close_if_empty(&tenant);
        }
        self.len -= drained.len();
        drained
    }

    fn drop_one(&mut self) -> Option<W> {
        let (tenant, line) = self.lines.iter_mut().max_by_key(|(_, line)| line.len())?;
        let (tenant, (_, waiter)) = (tenant.clone(), line.pop_last()?);
        self.len -= 1;
        self.close_if_empty(&tenant);
        Some(waiter)
    }

    fn close_if_empty(&mut self, tenant: &Tenant) {
        if self.lines.get(tenant).is_some_and(BTreeMap::is_empty) {
            self.lines.remove(tenant);
            self.leave_turns(tenant);
        }
    }

    fn leave_turns(&mut self, tenant: &Tenant) {
        if let Some(position) = self.turns.iter().position(|other| other == tenant) {
            self.turns.remove(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn tenant(namespace: &str) -> Tenant {
        Tenant {
            cluster: "c".into(),
            namespace: namespace.into(),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn served(queue: &mut FairQueue<&'static str>) -> Vec<&'static str> {
        let mut served = Vec::new();
        while let Some(tenant) = queue.next(|_| true).cloned() {
            served.extend(queue.pop(&tenant));
        }
        assert!(queue.is_empty() && queue.lines.is_empty() && queue.turns.is_empty());
        served
    }

    #[test]
    fn u8_within_a_tenant_what_expires_first_goes_first() {
        let mut queue = FairQueue::new(10);
        for (held_until, waiter) in [
            (Some(at(20)), "20"),
            (None, "none"),
            (Some(at(10)), "10"),
            (Some(at(10)), "10, later"),
            (None, "none, later"),
        ] {
            queue.push(&tenant("a"), held_until, waiter);
        }
        assert_eq!(
            served(&mut queue),
            ["none", "none, later", "10", "10, later", "20"]
        );
    }

    #[test]
    fn u6_tenants_take_turns_however_much_they_ask() {
        let mut queue = FairQueue::new(10);
        for (namespace, waiter) in [
            ("a", "a1"),
            ("a", "a2"),
            ("a", "a3"),
            ("b", "b1"),
            ("c", "c1"),
            ("b", "b2"),
        ] {
            queue.push(&tenant(namespace), None, waiter);
        }
        assert_eq!(served(&mut queue), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn u6_full_queue_drops_the_least_urgent_of_the_longest_line() {
        let mut queue = FairQueue::new(3);
        queue.push(&tenant("noisy"), Some(at(1)), "noisy 1");
        queue.push(&tenant("noisy"), Some(at(3)), "noisy 3");
        queue.push(&tenant("noisy"), Some(at(2)), "noisy 2");
        assert_eq!(
            queue.push(&tenant("quiet"), Some(at(9)), "quiet").1,
            Some("noisy 3")
        );
        assert_eq!(
            queue.push(&tenant("noisy"), Some(at(7)), "noisy 7").1,
            Some("noisy 7")
        );
        assert_eq!(queue.push(&tenant("noisy"), None, "noisy now").1, Some("noisy 2"));
        assert_eq!(served(&mut queue), ["noisy now", "quiet", "noisy 1"]);
    }

    #[test]
    fn queue_forgets_who_left_and_skips_who_may_not() {
        let mut queue = FairQueue::new(10);
        let (rank, _) = queue.push(&tenant("a"), None, "a1");
        queue.push(&tenant("a"), None, "a2");
        queue.push(&tenant("b"), None, "b1");
        assert_eq!(queue.remove(&tenant("a"), rank), Some("a1"));
        assert_eq!(queue.remove(&tenant("a"), rank), None);
        assert_eq!(queue.next(|tenant| &*tenant.namespace != "a"), Some(&tenant("b")));
        assert_eq!(queue.drain(|waiter| *waiter == "b1"), ["b1"]);
        assert_eq!((queue.len(), served(&mut queue)), (1, vec!["a2"]));
    }
}
