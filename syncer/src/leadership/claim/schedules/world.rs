//! Two processes, one Lease and one API server, in virtual time, event by event. Times are in microseconds.

use std::{cmp::Reverse, collections::BTreeMap, ops::Range};

use super::*;

/// How long things go wrong.
pub(super) const STORM: u64 = 240 * SECOND;

/// How one step of a process fares.
#[derive(Debug, Clone)]
pub(super) struct Luck {
    /// On the way to the API server.
    pub(super) request: u64,
    /// On the way back; none if the answer is lost.
    pub(super) answer: Option<u64>,
    /// How long the process is held up before it goes on.
    pub(super) held_up: u64,
    pub(super) draw: f64,
    pub(super) fate: Fate,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Lives,
    IsKilled,
    IsToldToStop,
    SeesTheLeaseTouched,
}

#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) clock_start: u64,
    /// How far its clock runs in a second.
    pub(super) clock_rate: u64,
    pub(super) luck: Vec<Luck>,
}

enum Event {
    /// The process goes on.
    Step,
    /// Its request reaches the API server.
    Request {
        from: String,
        call: u64,
        ask: Move,
        sent: Duration,
    },
    /// The same, for giving the Lease back; nobody waits for the answer.
    Release { from: String },
    /// An answer reaches it; none if somebody else was faster.
    Answer {
        call: u64,
        answer: Option<Answer>,
        sent: Duration,
    },
    /// It waits no longer.
    GiveUp { call: u64 },
}

enum Answer {
    Read(Option<Record>),
    Written(Record),
}

/// A process as it runs.
struct Running {
    process: Process,
    claim: Claim,
    steps: usize,
    /// The call that it waits for.
    call: Option<u64>,
    /// Held up until then. It looks at an answer that is there before it looks at how long it has waited.
    held_up_until: u64,
}

pub(super) struct World {
    pub(super) now: u64,
    lease: Option<Record>,
    running: Vec<Running>,
    /// By time, and then in the order in which they were caused.
    events: BTreeMap<(u64, u64), (usize, Event)>,
    count: u64,
    /// Who may write, and when: from an answer on, to the end by the process's own clock.
    pub(super) reigns: Vec<(String, Range<u64>)>,
}

impl Process {
    fn local(&self, time: u64) -> Duration {
        Duration::from_micros(self.clock_start + time * self.clock_rate / SECOND)
    }

    fn global(&self, local: Duration) -> u64 {
        (micros(local) - self.clock_start) * SECOND / self.clock_rate
    }
}

impl World {
    pub(super) fn new(processes: [Process; 2]) -> Self {
        let mut world = Self {
            now: 0,
            lease: None,
            running: Vec::new(),
            events: BTreeMap::new(),
            count: 0,
            reigns: Vec::new(),
        };
        for (who, process) in processes.into_iter().enumerate() {
            let claim = world.candidate();
            world.running.push(Running {
                process,
                claim,
                steps: 0,
                call: None,
                held_up_until: 0,
            });
            world.cause(0, who, Event::Step);
        }
        world
    }

    fn unique(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn candidate(&mut self) -> Claim {
        Claim::new(format!("process-{}", self.unique()), TIMING)
    }

    fn cause(&mut self, delay: u64, who: usize, event: Event) {
        let order = self.unique();
        self.events.insert((self.now + delay, order), (who, event));
    }

    /// After the storm all goes well.
    fn luck(&mut self, who: usize) -> Luck {
        let Running { process, steps, .. } = &mut self.running[who];
        *steps += 1;
        if self.now < STORM {
            return process.luck[*steps % process.luck.len()].clone();
        }
        Luck {
            request: 1_000,
            answer: Some(1_000),
            held_up: 0,
            draw: 0.5,
            fate: Fate::Lives,
        }
    }

    pub(super) fn run_until(&mut self, end: u64) {
        while let Some(((time, _order), (who, event))) = self.events.pop_first() {
            self.now = time;
            match event {
                Event::Step => self.step(who),
                Event::Request {
                    from,
                    call,
                    ask,
                    sent,
                } => {
                    let answer = self.serve(&from, ask);
                    let luck = self.luck(who);
                    if let Some(delay) = luck.answer {
                        if luck.held_up > 0 {
                            self.running[who].held_up_until = time + delay + luck.held_up;
                        }
                        self.cause(delay + luck.held_up, who, Event::Answer { call, answer, sent });
                    }
                }
                Event::Release { from } => {
                    let version = self.unique().to_string();
                    if let Some(lease) = &mut self.lease
                        && lease.holder.as_ref() == Some(&from)
                    {
                        lease.holder = None;
                        lease.version = version;
                    }
                }
                Event::Answer { call, answer, sent } if self.running[who].call == Some(call) => {
                    self.hear(who, answer, sent);
                }
                Event::GiveUp { call } if time < self.running[who].held_up_until => {
                    self.cause(
                        self.running[who].held_up_until - time,
                        who,
                        Event::GiveUp { call },
                    );
                }
                Event::GiveUp { call } if self.running[who].call == Some(call) => {
                    self.running[who].call = None;
                    self.running[who].claim.doubt();
                    self.rest(who);
                }
                // It does not wait for that any more.
                Event::Answer { .. } | Event::GiveUp { .. } => {}
            }
            if time > end {
                return;
            }
        }
    }

    fn step(&mut self, who: usize) {
        let luck = self.luck(who);
        match luck.fate {
            Fate::IsKilled => return self.end(who),
            Fate::IsToldToStop => {
                let from = self.running[who].claim.identity().to_owned();
                self.end(who);
                return self.cause(luck.request, who, Event::Release { from });
            }
            Fate::SeesTheLeaseTouched => {
                let version = self.unique().to_string();
                if let Some(lease) = &mut self.lease {
                    lease.version = version;
                }
            }
            Fate::Lives => {}
        }
        let call = self.unique();
        let Running { process, claim, .. } = &mut self.running[who];
        let sent = process.local(self.now);
        match claim.next(sent) {
            Move::Lost => self.end(who),
            Move::Wait => {
                claim.doubt();
                self.rest(who);
            }
            ask @ (Move::Read | Move::Create | Move::Take { .. } | Move::Renew { .. }) => {
                let from = claim.identity().to_owned();
                self.running[who].call = Some(call);
                let request = Event::Request {
                    from,
                    call,
                    ask,
                    sent,
                };
                self.cause(luck.held_up + luck.request, who, request);
                self.cause(luck.held_up + micros(TIMING.call()), who, Event::GiveUp { call });
            }
        }
    }

    fn hear(&mut self, who: usize, answer: Option<Answer>, sent: Duration) {
        let Running {
            process, claim, call, ..
        } = &mut self.running[who];
        *call = None;
        match answer {
            Some(Answer::Read(record)) => {
                claim.saw(record, process.local(self.now));
                return self.step(who);
            }
            Some(Answer::Written(record)) => {
                claim.wrote(record, sent);
                let end = process.global(claim.until().unwrap());
                self.reigns.push((claim.identity().to_owned(), self.now..end));
            }
            None => claim.doubt(),
        }
        self.rest(who);
    }

    fn rest(&mut self, who: usize) {
        let luck = self.luck(who);
        self.cause(micros(TIMING.pause(luck.draw)) + luck.held_up, who, Event::Step);
    }

    /// The process writes nothing any more, and another comes after it.
    fn end(&mut self, who: usize) {
        let next = self.candidate();
        let last = std::mem::replace(&mut self.running[who].claim, next);
        let now = self.now;
        for (_holder, reign) in self
            .reigns
            .iter_mut()
            .filter(|(holder, _)| holder == last.identity())
        {
            reign.end = reign.end.min(now);
        }
        self.cause(SECOND, who, Event::Step);
    }

    /// What the API server does: a write counts for the version that it names, a create where nothing is.
    fn serve(&mut self, from: &str, ask: Move) -> Option<Answer> {
        let version = self.unique().to_string();
        let new = |transitions| Record {
            version,
            holder: Some(from.to_owned()),
            lease: Some(TIMING.lease),
            transitions,
        };
        let written = match (ask, &self.lease) {
            (Move::Create, None) => new(0),
            (Move::Take { version, transitions }, Some(lease)) if lease.version == version => {
                new(transitions)
            }
            (Move::Renew { version }, Some(lease)) if lease.version == version => new(lease.transitions),
            (Move::Read, lease) => return Some(Answer::Read(lease.clone())),
            _ => return None,
        };
        self.lease = Some(written.clone());
        Some(Answer::Written(written))
    }

    /// Two of different processes at the same time.
    pub(super) fn overlap(&self) -> Option<[&(String, Range<u64>); 2]> {
        let mut reigns: Vec<_> = self
            .reigns
            .iter()
            .filter(|(_holder, reign)| !reign.is_empty())
            .collect();
        reigns.sort_by_key(|(_holder, reign)| (reign.start, Reverse(reign.end)));
        reigns.iter().enumerate().find_map(|(index, one)| {
            let other = reigns[index + 1..]
                .iter()
                .take_while(|other| other.1.start < one.1.end)
                .find(|other| other.0 != one.0)?;
            Some([*one, *other])
        })
    }

    pub(super) fn is_led(&self) -> bool {
        self.reigns
            .iter()
            .any(|(_holder, reign)| reign.contains(&self.now))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}
