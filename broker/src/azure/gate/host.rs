//! One host's whole discipline in one place: may a call be made, who is next, what does an answer change. Pure.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Outcome, Visit, Why,
    bucket::Bucket,
    circuit::Circuit,
    fair_queue::{FairQueue, Rank},
    held::Held,
    limits::{HostKind, Limits, WAITING_PER_HOST},
    pauses::{PauseScope, Pauses},
    retry_budget::{RetryBudget, Spent},
};
use crate::{azure::upstream::UpstreamError, tenant::Tenant};

/// Which barriers a call has been let through to try.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pass {
    tries_circuit: bool,
    tries_pause: bool,
}

/// A caller that waits, and how it is told.
pub(super) struct Waiter<W> {
    pub(super) reply: W,
    pub(super) visit: Visit,
    pub(super) pass: Pass,
}

/// The state of one host.
pub(super) struct Host<W> {
    limits: Limits,
    bucket: Bucket,
    circuit: Circuit,
    pauses: Pauses,
    retries: RetryBudget,
    /// Of the calls that helped nobody the last.
    last_failure: Option<Arc<UpstreamError>>,
    queue: FairQueue<Waiter<W>>,
    /// When it last started a call, in calls to all hosts.
    last_turn: u64,
    /// For the choice of whom to forget.
    pub(super) used_at: Instant,
    /// Somebody waits for the next token of the bucket.
    pub(super) is_pumped: bool,
}

/// What the end of a call changed.
pub(super) struct Changes<W> {
    /// How long the pause is that the answer asked for, or that was asked for already.
    pub(super) pause: Option<Duration>,
    /// Who waits no longer, and why.
    pub(super) turned_away: Vec<(Waiter<W>, Why, Duration)>,
}

impl<W> Host<W> {
    pub(super) fn new(kind: HostKind, now: Instant) -> Self {
        let limits = kind.limits();
        Self {
            limits,
            bucket: Bucket::new(limits.burst, limits.interval),
            circuit: Circuit::default(),
            pauses: Pauses::default(),
            retries: RetryBudget::new(now),
            last_failure: None,
            queue: FairQueue::new(WAITING_PER_HOST, limits.places),
            last_turn: 0,
            used_at: now,
            is_pumped: false,
        }
    }

    /// Nobody is here. What it remembers may still be of use.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.held().all() == 0 && self.queue.is_empty()
    }

    pub(super) fn has_waiters(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn circuit_is_open(&self, now: Instant) -> bool {
        self.circuit.is_open(now)
    }

    /// How much of what all hosts share it has had: of two, the lesser goes first.
    pub(super) fn share(&self) -> (u32, u64) {
        (self.queue.held().all(), self.last_turn)
    }

    /// Whether it has asked for calls to stop, or should not be called anyway.
    pub(super) fn is_restrained(&self, now: Instant) -> bool {
        self.circuit.is_open(now) || self.pauses.last_end(now).is_some()
    }

    /// About how long those who wait now will keep it busy.
    pub(super) fn backlog(&self) -> Duration {
        u32::try_from(self.queue.len()).map_or(Duration::MAX, |waiting| self.limits.interval * waiting)
    }

    /// Lets a call through to the queue, or says why not and for how long.
    pub(super) fn check(&self, visit: &Visit, now: Instant) -> Result<Pass, (Why, Duration)> {
        let tries_pause = self
            .pauses
            .check(&visit.scope, now)
            .map_err(|wait| (Why::Paused, wait))?;
        let tries_circuit = self
            .circuit
            .check(now)
            .map_err(|open| (Why::CircuitOpen(open.last), open.wait))?;
        if visit.attempt.is_retry && !self.retries.has_room(now) {
            return Err(self.no_retries());
        }
        Ok(Pass {
            tries_circuit,
            tries_pause,
        })
    }

    fn no_retries(&self) -> (Why, Duration) {
        /// The window slides in steps of 5 s; before the next one nothing changes.
        const NEXT_CHANCE: Duration = Duration::from_secs(5);
        (Why::RetryBudget(self.last_failure.clone()), NEXT_CHANCE)
    }

    /// Queues a caller that has passed. The second part is one whom it displaced, perhaps itself.
    pub(super) fn enqueue(&mut self, reply: W, visit: Visit, pass: Pass) -> (Rank, Option<Waiter<W>>) {
        if pass.tries_circuit {
            self.circuit.start_trial();
        }
        if pass.tries_pause {
            self.pauses.start_trial(&visit.scope);
        }
        let (tenant, held_until) = (visit.attempt.tenant.clone(), visit.attempt.held_until);
        let waiter = Waiter { reply, visit, pass };
        let (rank, displaced) = self.queue.push(&tenant, held_until, waiter);
        if let Some(waiter) = &displaced {
            self.end_trials(&waiter.visit.scope, waiter.pass);
        }
        (rank, displaced)
    }

    /// Whose turn it is, if a call may start now. `total` are the calls to all hosts.
    pub(super) fn next(&self, now: Instant, total: &Held) -> Option<&Tenant> {
        if !self.bucket.wait(now).is_zero() {
            return None;
        }
        self.next_but_for_the_rate(now, total)
    }

    fn next_but_for_the_rate(&self, now: Instant, total: &Held) -> Option<&Tenant> {
        let starts_are_short = !self.bucket.has(self.limits.places.all, now);
        self.queue.next(total, starts_are_short)
    }

    /// How long until the next call may start, where the rate is all that stands in the way.
    pub(super) fn wait_for_rate(&self, now: Instant, total: &Held) -> Option<Duration> {
        self.next_but_for_the_rate(now, total)?;
        Some(self.bucket.wait(now))
    }

    /// Starts the next call of `tenant`, unless it is a second try and there have been too many. `turn` counts the calls
    /// to all hosts.
    #[expect(clippy::type_complexity, reason = "the waiter, and what became of it")]
    pub(super) fn start(
        &mut self,
        tenant: &Tenant,
        now: Instant,
        turn: u64,
    ) -> Option<(Waiter<W>, Result<Option<Spent>, (Why, Duration)>)> {
        let waiter = self.queue.pop(tenant)?;
        let spent = if waiter.visit.attempt.is_retry {
            let Some(spent) = self.retries.spend(now) else {
                self.end_trials(&waiter.visit.scope, waiter.pass);
                return Some((waiter, Err(self.no_retries())));
            };
            Some(spent)
        } else {
            self.retries.count_first_try(now);
            None
        };
        self.bucket.take(now);
        self.queue.started(tenant);
        self.last_turn = turn;
        Some((waiter, Ok(spent)))
    }

    /// A caller has stopped waiting.
    pub(super) fn forget(&mut self, tenant: &Tenant, rank: Rank) {
        if let Some(waiter) = self.queue.remove(tenant, rank) {
            self.end_trials(&waiter.visit.scope, waiter.pass);
        }
    }

    /// A call has ended; without an outcome if nobody waited for it.
    pub(super) fn leave(
        &mut self,
        visit: &Visit,
        pass: Pass,
        spent: Option<Spent>,
        outcome: Option<Outcome>,
        now: Instant,
        chance: f64,
    ) -> Changes<W> {
        self.queue.ended(&visit.attempt.tenant);
        self.learn(visit, pass, spent, outcome, now, chance)
    }

    fn learn(
        &mut self,
        visit: &Visit,
        pass: Pass,
        spent: Option<Spent>,
        outcome: Option<Outcome>,
        now: Instant,
        chance: f64,
    ) -> Changes<W> {
        let mut changes = Changes {
            pause: None,
            turned_away: Vec::new(),
        };
        let failure = match outcome {
            None => {
                self.end_trials(&visit.scope, pass);
                return changes;
            }
            Some(Outcome::Answered) => {
                self.pauses.answered(&visit.scope, pass.tries_pause, now);
                if let Some(spent) = spent {
                    self.retries.give_back(spent);
                }
                None
            }
            Some(Outcome::Useless(error)) => {
                self.pauses.answered(&visit.scope, pass.tries_pause, now);
                self.last_failure = Some(Arc::new(error));
                None
            }
            Some(Outcome::Throttled { wait, failure }) => {
                let end = self
                    .pauses
                    .throttled(&visit.scope, pass.tries_pause, wait, &self.limits, now);
                let pause = end.saturating_duration_since(now);
                changes.pause = Some(pause);
                self.turn_away(
                    &mut changes,
                    |waiter| waiter.visit.scope == visit.scope,
                    &Why::Paused,
                    pause,
                );
                failure
            }
            Some(Outcome::Failed(failure)) => {
                if pass.tries_pause {
                    self.pauses.end_trial(&visit.scope);
                }
                Some(failure)
            }
        };
        let Some(failure) = failure else {
            self.circuit.succeeded(pass.tries_circuit);
            return changes;
        };
        let failure = Arc::new(failure);
        self.last_failure = Some(Arc::clone(&failure));
        if self.circuit.failed(pass.tries_circuit, failure, now, chance)
            && let Err(open) = self.circuit.check(now)
        {
            self.turn_away(&mut changes, |_| true, &Why::CircuitOpen(open.last), open.wait);
        }
        changes
    }

    /// Whoever waits for what is closed now would wait in vain.
    fn turn_away(
        &mut self,
        changes: &mut Changes<W>,
        whom: impl Fn(&Waiter<W>) -> bool,
        why: &Why,
        wait: Duration,
    ) {
        for waiter in self.queue.drain(whom) {
            self.end_trials(&waiter.visit.scope, waiter.pass);
            changes.turned_away.push((waiter, why.clone(), wait));
        }
    }

    fn end_trials(&mut self, scope: &PauseScope, pass: Pass) {
        if pass.tries_circuit {
            self.circuit.end_trial();
        }
        if pass.tries_pause {
            self.pauses.end_trial(scope);
        }
    }
}

/// Names a host: its kind, and its name and port.
pub(super) type HostKey = (HostKind, Arc<str>);
