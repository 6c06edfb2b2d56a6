//! A pass, as `reconcile` makes it: what is read, the steps in the order of the plan, and what one that fails stops. A link
//! that fails stops the removal of the peer's finalizer; a Secret that cannot be taken over stops that and the question to
//! the broker; a lost race ends the pass. Between what is read and what is done others may come.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use syncer::{
    binding::Binding,
    contest::Fight,
    finalizer::{self, Handover},
    links::Target,
    memory::BindingMemory,
    plan::{Plan, Snapshot, Step, plan},
    problem::Problem,
    pull_secret::{self, SecretState},
    snapshot, steady,
};

use crate::{
    judge::is_foreign,
    server::{Key, secret_key},
    world::World,
};

/// As in the product.
const RETRY_OUTPACED: Duration = Duration::from_millis(500);
const NO_INPUTS: &str = "";

pub(crate) struct Pass {
    pub(crate) process: usize,
    pub(crate) slot: usize,
    pub(crate) snapshot: Snapshot,
    first: Plan,
    pub(crate) link_problem: Option<Problem>,
    pub(crate) secret_problem: Option<Problem>,
    /// The version in which the peer's finalizer is gone.
    pub(crate) released: Option<String>,
    pub(crate) release_again: bool,
    pub(crate) is_outpaced: bool,
}

impl World {
    /// Reads and decides. None if the process knows of no such binding.
    pub(crate) fn begin(&mut self, process: usize, slot: usize) -> Option<Pass> {
        let draw = self.draw();
        let snapshot = self.snapshot(process, slot, draw)?;
        let is_back = matches!(snapshot.memory.handover, Some(Handover::Returned { .. }));
        assert!(
            !is_back || self.returned.contains(&slot),
            "the peer is taken to be back, and never was"
        );
        let first = plan(&snapshot, self.now_of(&snapshot));
        let memory = &self.processes[process].memory;
        memory.allow_link(&snapshot.binding, first.may_link);
        Some(Pass {
            process,
            slot,
            snapshot,
            first,
            link_problem: None,
            secret_problem: None,
            released: None,
            release_again: false,
            is_outpaced: false,
        })
    }

    /// Does what was decided, and says how long until the next look.
    pub(crate) fn finish(&mut self, mut pass: Pass) -> Option<Duration> {
        let asked = self.broker.questions;
        let is_new_conflict = pass.snapshot.secret == SecretState::Foreign && pass.first.wake_at.is_none();
        for step in std::mem::take(&mut pass.first.steps) {
            let secret_failed = pass.secret_problem.is_some() || pass.is_outpaced;
            if step.is_barred(pass.link_problem.is_some(), secret_failed) {
                continue;
            }
            match step {
                Step::Link(account) => self.link(&mut pass, account),
                Step::Adopt(secret) => self.adopt(&mut pass, &secret),
                Step::Release => self.release(&mut pass),
                Step::Issue(issue) => self.issue(&mut pass, &issue),
            }
        }
        let asked = self.broker.questions - asked;
        assert!(asked <= 1, "{asked} questions in one pass");
        if pass.is_outpaced {
            self.keep(pass);
            return Some(RETRY_OUTPACED.mul_f64(1.0 + self.draw()));
        }
        if is_new_conflict {
            let problem = pass.first.problem.take();
            self.fail(&mut pass, NO_INPUTS, problem);
        }
        self.conclude(pass)
    }

    pub(crate) fn keep(&self, pass: Pass) {
        let key = pass.snapshot.binding.key();
        self.processes[pass.process]
            .memory
            .keep(key, pass.snapshot.memory);
    }

    /// The time by which it is decided what is due.
    pub(crate) fn now_of(&self, snapshot: &Snapshot) -> Timestamp {
        snapshot.memory.steady.now(self.clock.moment())
    }

    /// All that a decision of this process on this binding depends on; as `snapshot`.
    pub(crate) fn snapshot(&mut self, process: usize, slot: usize, draw: f64) -> Option<Snapshot> {
        let binding = self.processes[process].binding(slot)?;
        let (moment, uid) = (self.clock.moment(), binding.uid().unwrap_or_default());
        let memory = &self.processes[process].memory;
        let mut memory = memory.of(&binding.key(), &uid, steady::time_of_day(moment));
        let now = memory.steady.now(moment);
        memory.handover = finalizer::observe(memory.handover, &binding, now, draw);
        let secret = self.secret(process, slot, &binding, &mut memory);
        memory.steady.saw(secret.credential(), moment);
        let namespace = binding.namespace().unwrap_or_default();
        let identity_account = binding
            .identity_account()
            .map(|name| (namespace, name.to_owned()));
        Some(Snapshot {
            targets: self.targets(process, &binding, &memory),
            secret_fight: self.secret_fight(&memory),
            identity_account: identity_account.and_then(|key| self.processes[process].account(&key)),
            secret,
            memory,
            allowed_servers: "azurecr.io".parse().unwrap(),
            reapply_at: None,
            binding,
        })
    }

    /// As the watch shows it, or a live read if it does not.
    fn secret(
        &self,
        process: usize,
        slot: usize,
        binding: &Binding,
        memory: &mut BindingMemory,
    ) -> SecretState {
        if let Some(seen) = self.processes[process].secret(slot) {
            return snapshot::watched_secret(&seen.metadata, binding, memory);
        }
        memory.secret = None;
        let live = self.server.objects.secrets.get(&secret_key(slot));
        let state = live.map_or(SecretState::Absent, |live| {
            pull_secret::judge(&live.metadata, binding)
        });
        let is_somebody_elses = live.is_some_and(|live| is_foreign(live, slot));
        assert_eq!(is_somebody_elses, state == SecretState::Foreign, "whose it is");
        state
    }

    pub(crate) fn secret_fight(&self, memory: &BindingMemory) -> Option<Fight> {
        let moment = self.clock.moment();
        let fight = memory.secret_contest.fight(moment.monotonic)?;
        Some(fight.told_at(moment.monotonic, memory.steady.now(moment)))
    }

    /// As `links::keeper` tells them.
    pub(crate) fn targets(
        &mut self,
        process: usize,
        binding: &Binding,
        memory: &BindingMemory,
    ) -> Vec<Target> {
        let moment = self.clock.moment();
        let (namespace, secret_name) = (
            binding.namespace().unwrap_or_default(),
            pull_secret::name_of(binding),
        );
        let process = &mut self.processes[process];
        let target = |name: &str| {
            let key: Key = (namespace.clone(), name.to_owned());
            let account = process.account(&key);
            let fight = account
                .as_ref()
                .and_then(|account| process.contests.fight(account, &secret_name, moment.monotonic));
            Target {
                name: name.to_owned(),
                fight: fight.map(|fight| fight.told_at(moment.monotonic, memory.steady.now(moment))),
                account,
            }
        };
        binding.spec.accounts().into_iter().map(target).collect()
    }

    /// What is fought over after a write.
    pub(crate) fn look_at_fights(&mut self, pass: &mut Pass) {
        let (binding, memory) = (Arc::clone(&pass.snapshot.binding), &pass.snapshot.memory);
        pass.snapshot.secret_fight = self.secret_fight(memory);
        pass.snapshot.targets = self.targets(pass.process, &binding, memory);
    }
}
