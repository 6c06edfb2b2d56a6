//! The world: the server, the broker, the clock, the processes of the syncer, and what is still on its way between them.
//! Here time passes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    broker::Broker,
    cases::Case,
    clock::Clock,
    feeds,
    pass::Pass,
    process::Process,
    server::{Fault, Key, Objects, Refusal, Server, Write, Written},
    written::Spec,
};

/// A failed write of links is repeated after this; the same again at most.
const LINK_RETRY: Duration = Duration::from_secs(15);
/// A pass that writes wakes its own binding; more passes than this at one time are a loop without a pause.
const MOST_AT_ONCE: usize = 12;
/// The longest that a write may be under way.
const LATEST: Duration = Duration::from_secs(90);

#[derive(Default)]
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) broker: Broker,
    pub(crate) clock: Clock,
    /// What people wrote last into each binding.
    pub(crate) specs: BTreeMap<usize, Spec>,
    /// The last one that leads is the leader; there should be no other.
    pub(crate) processes: Vec<Process>,
    /// What the next writes come to; those after them succeed.
    pub(crate) faults: VecDeque<Fault>,
    /// Writes under way.
    late: Vec<(Duration, Write)>,
    /// Passes of processes that lead no more.
    pub(crate) unfinished: Vec<(Duration, Pass)>,
    /// Until when two processes lead, and whether the older one stops then.
    pub(crate) second_until: Option<(Duration, bool)>,
    /// Bindings whose status was written by a process that knew less than the leader.
    pub(crate) told_late: Vec<usize>,
    /// Bindings on which the peer put its finalizer back.
    pub(crate) returned: BTreeSet<usize>,
    /// What the watches have been told.
    published: Objects,
    dice: u64,
}

impl World {
    /// Of this case, with nothing in it and nobody at work.
    pub(crate) fn empty(case: &Case) -> Self {
        Self {
            dice: case.dice,
            ..Self::default()
        }
    }

    /// A number in [0, 1), another one each time and the same ones each time that a case is run.
    pub(crate) fn draw(&mut self) -> f64 {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.dice >> 32).unwrap()) / (f64::from(u32::MAX) + 1.0)
    }

    /// The process that leads.
    pub(crate) fn leader(&self) -> usize {
        self.processes.iter().rposition(|process| process.leads).unwrap()
    }

    /// A process begins to lead.
    pub(crate) fn start(&mut self) {
        self.publish();
        let process = Process::started(&self.server.objects, self.clock.monotonic());
        self.processes.push(process);
    }

    /// Tells the watches what is new.
    pub(crate) fn publish(&mut self) {
        self.server.collect_garbage();
        let changes = feeds::changes(&self.published, &self.server.objects);
        if changes.is_empty() {
            return;
        }
        self.published = self.server.objects.clone();
        let now = self.clock.monotonic();
        for index in 0..self.processes.len() {
            if !self.processes[index].is_alive {
                continue;
            }
            for change in changes.clone() {
                let draw = self.draw();
                self.processes[index].feeds.push(change, now, draw);
            }
            self.processes[index].deliver(now);
        }
    }

    /// Sends a write, and says what the one who sent it gets to hear.
    pub(crate) fn send(&mut self, write: Write) -> Result<Written, Refusal> {
        match self.faults.pop_front() {
            None | Some(Fault::None) => self.carry_out(&write),
            Some(Fault::Refused(code)) => Err(Refusal(code)),
            Some(Fault::Lost) => self.carry_out(&write).and(Err(Refusal(500))),
            Some(Fault::Late) => {
                let at = self.clock.monotonic() + LATEST.mul_f64(self.draw());
                self.late.push((at, write));
                Err(Refusal(500))
            }
        }
    }

    fn carry_out(&mut self, write: &Write) -> Result<Written, Refusal> {
        let written = self.judged(write);
        self.publish();
        written
    }

    /// How long until all that is under way has arrived.
    pub(crate) fn longest_under_way(&self) -> Duration {
        let now = self.clock.monotonic();
        let feeds = self.processes.iter().filter(|process| process.is_alive);
        let feeds = feeds.filter_map(|process| process.feeds.last());
        let late = self.late.iter().map(|(at, _write)| *at);
        let unfinished = self.unfinished.iter().map(|(at, _pass)| *at);
        let last = feeds.chain(late).chain(unfinished).max();
        last.map_or(Duration::ZERO, |at| at.saturating_sub(now))
    }

    /// When something happens next.
    pub(crate) fn next_event(&self) -> Option<Duration> {
        let alive = self.processes.iter().filter(|process| process.is_alive);
        let of_processes = alive.flat_map(|process| [process.feeds.next(), process.next_task()]);
        let late = self.late.iter().map(|(at, _write)| Some(*at));
        let unfinished = self.unfinished.iter().map(|(at, _pass)| Some(*at));
        let second = self.second_until.map(|(until, _older)| until);
        of_processes
            .chain(late)
            .chain(unfinished)
            .chain([second])
            .flatten()
            .min()
    }

    /// Lets time pass, and the syncer work.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.clock.monotonic() + time;
        let mut at_once = BTreeMap::<(usize, usize), usize>::new();
        while let Some(next) = self.next_event().filter(|next| *next <= end) {
            if next > self.clock.monotonic() {
                self.clock.advance_to(next);
                at_once.clear();
            }
            let now = self.clock.monotonic();
            for process in self.processes.iter_mut().filter(|process| process.is_alive) {
                process.deliver(now);
            }
            if self.arrives(now) {
                continue;
            }
            if let Some((process, account)) = self.account_due(now) {
                self.processes[process].accounts_due.remove(&account);
                if self.settle_links(process, &account, None).is_err() {
                    let at = now + LINK_RETRY.mul_f64(1.0 + self.draw());
                    self.processes[process].accounts_due.entry(account).or_insert(at);
                }
            } else if let Some((process, slot)) = self.binding_due(now) {
                let count = at_once.entry((process, slot)).or_default();
                *count += 1;
                assert!(
                    *count <= MOST_AT_ONCE,
                    "binding {slot} is worked on without a pause"
                );
                self.look_at(process, slot);
            }
        }
        self.clock.advance_to(end);
    }

    fn account_due(&self, now: Duration) -> Option<(usize, Key)> {
        let mut leading = self.leading();
        leading.find_map(|(index, process)| {
            let mut due = process.accounts_due.iter().filter(|(_key, at)| **at <= now);
            due.next().map(|(key, _at)| (index, key.clone()))
        })
    }

    fn binding_due(&self, now: Duration) -> Option<(usize, usize)> {
        let mut leading = self.leading();
        leading.find_map(|(index, process)| {
            let mut due = process.due.iter().filter(|(_slot, at)| **at <= now);
            due.next().map(|(slot, _at)| (index, *slot))
        })
    }

    pub(crate) fn leading(&self) -> impl Iterator<Item = (usize, &Process)> {
        self.processes
            .iter()
            .enumerate()
            .filter(|(_index, process)| process.leads)
    }

    /// Something that was on its way arrives. False if there is nothing.
    fn arrives(&mut self, now: Duration) -> bool {
        if let Some(index) = self.late.iter().position(|(at, _write)| *at <= now) {
            let (_at, write) = self.late.remove(index);
            let landed = self.carry_out(&write);
            if let (Write::Status { slot, .. }, Ok(_written)) = (write, landed) {
                self.told_late.push(slot);
            }
            return true;
        }
        if let Some(index) = self.unfinished.iter().position(|(at, _pass)| *at <= now) {
            let (_at, pass) = self.unfinished.remove(index);
            self.told_late.push(pass.slot);
            self.processes[pass.process].is_alive = false;
            self.finish(pass);
            return true;
        }
        if let Some((_until, is_older_to_stop)) = self.second_until.take_if(|(until, _older)| *until <= now) {
            self.stop_second(is_older_to_stop);
            return true;
        }
        false
    }

    /// One pass, and when the next one is to come.
    pub(crate) fn look_at(&mut self, process: usize, slot: usize) {
        self.processes[process].due.remove(&slot);
        let Some(pass) = self.begin(process, slot) else {
            return;
        };
        *self.processes[process].passes.entry(slot).or_default() += 1;
        if let Some(pause) = self.finish(pass) {
            let at = self.clock.monotonic() + pause;
            self.processes[process].requeue(slot, at);
        }
    }
}
