//! The callers of one cluster that wait for a host: a line for each namespace, and the namespaces by how many calls they
//! have in flight there and by their turns.
//!
//! A cluster can name as many namespaces as there may be callers, so nothing here goes through all lines but `drain`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Rank,
    order::{Order, Standing},
};
use crate::tenant::Tenant;

/// The lines of one cluster's namespaces. None is empty.
pub(super) struct Lines<W> {
    by_namespace: HashMap<Tenant, Line<W>>,
    turns: BTreeMap<Standing, Tenant>,
    /// How long each line is, by the standing of its namespace.
    lengths: BTreeSet<(usize, Standing)>,
    len: usize,
    last_turn: u64,
}

struct Line<W> {
    standing: Standing,
    waiters: BTreeMap<Rank, W>,
}

impl<W> Lines<W> {
    pub(super) fn new() -> Self {
        Self {
            by_namespace: HashMap::new(),
            turns: BTreeMap::new(),
            lengths: BTreeSet::new(),
            len: 0,
            last_turn: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a waiter of `tenant`, which has `held` calls in flight.
    pub(super) fn push(&mut self, tenant: &Tenant, held: u32, rank: Rank, waiter: W) {
        let mut line = self.take_up(tenant).unwrap_or_else(|| Line {
            standing: Standing {
                held,
                turn: self.next_turn(),
            },
            waiters: BTreeMap::new(),
        });
        line.waiters.insert(rank, waiter);
        self.put_down(tenant, line);
    }

    /// Whether one of the namespaces may.
    pub(super) fn has_one(&self, may: impl Fn(&Tenant) -> bool) -> bool {
        self.turns.values().any(may)
    }

    /// The namespace that goes first, of those that may.
    pub(super) fn next(&self, order: Order, may: impl Fn(&Tenant) -> bool) -> Option<&Tenant> {
        order.first(&self.turns, may)
    }

    /// Takes the most urgent waiter of `tenant`. Its turn is not used up before a call has started.
    pub(super) fn pop(&mut self, tenant: &Tenant) -> Option<W> {
        let mut line = self.take_up(tenant)?;
        let first = line.waiters.pop_first();
        self.put_down(tenant, line);
        first.map(|(_, waiter)| waiter)
    }

    /// A call of `tenant` has started, which has `held` in flight by that. Its next turn comes after those of all others.
    pub(super) fn started(&mut self, tenant: &Tenant, held: u32) {
        if let Some(mut line) = self.take_up(tenant) {
            let turn = self.next_turn();
            line.standing = Standing { held, turn };
            self.put_down(tenant, line);
        }
    }

    /// A call of `tenant` has ended, which has `held` in flight still.
    pub(super) fn ended(&mut self, tenant: &Tenant, held: u32) {
        if let Some(mut line) = self.take_up(tenant) {
            line.standing.held = held;
            self.put_down(tenant, line);
        }
    }

    /// Takes out one that no longer waits.
    pub(super) fn remove(&mut self, tenant: &Tenant, rank: Rank) -> Option<W> {
        let mut line = self.take_up(tenant)?;
        let waiter = line.waiters.remove(&rank);
        self.put_down(tenant, line);
        waiter
    }

    /// Takes out all that `matches`.
    pub(super) fn drain(&mut self, matches: impl Fn(&W) -> bool) -> Vec<W> {
        let mut drained = Vec::new();
        let tenants: Vec<Tenant> = self.turns.values().cloned().collect();
        for tenant in tenants {
            if let Some(mut line) = self.take_up(&tenant) {
                let matching = line.waiters.extract_if(.., |_, waiter| matches(waiter));
                drained.extend(matching.map(|(_, waiter)| waiter));
                self.put_down(&tenant, line);
            }
        }
        drained
    }

    /// Takes out the least urgent one of the longest line.
    pub(super) fn drop_one(&mut self) -> Option<W> {
        let (_, standing) = self.lengths.last()?;
        let tenant = self.turns.get(standing)?.clone();
        let mut line = self.take_up(&tenant)?;
        let last = line.waiters.pop_last();
        self.put_down(&tenant, line);
        last.map(|(_, waiter)| waiter)
    }

    fn next_turn(&mut self) -> u64 {
        self.last_turn += 1;
        self.last_turn
    }

    /// Takes a line out, to be changed.
    fn take_up(&mut self, tenant: &Tenant) -> Option<Line<W>> {
        let line = self.by_namespace.remove(tenant)?;
        self.turns.remove(&line.standing);
        self.lengths.remove(&(line.waiters.len(), line.standing));
        self.len -= line.waiters.len();
        Some(line)
    }

    /// Puts it back, if somebody is left in it.
    fn put_down(&mut self, tenant: &Tenant, line: Line<W>) {
        if line.waiters.is_empty() {
            return;
        }
        self.len += line.waiters.len();
        self.lengths.insert((line.waiters.len(), line.standing));
        self.turns.insert(line.standing, tenant.clone());
        self.by_namespace.insert(tenant.clone(), line);
    }
}
