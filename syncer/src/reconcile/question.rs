//! The question to the broker: it is put, waited for, and given up when nobody wants its answer any more. A pass has its
//! object to itself, so a change would otherwise wait until the broker answers or gives up.
//!
//! The answer to a question that is given up is dropped, whatever it is: neither a refusal nor a credential for what the
//! binding wanted before is counted or remembered. So that a binding which changes all the time comes to a credential, or
//! to a word on why not, all the same, not many are given up in a row.

use std::{sync::Arc, time::Duration};

use tokio::{sync::SemaphorePermit, time::Instant};

use super::{PATIENCE, Pass};
use crate::{
    binding::Binding,
    context::Context,
    credential, links,
    news::Follower,
    plan::{self, Issue},
    problem::Problem,
    schedule,
    turns::Urgency,
};

/// A question is given up no sooner than so long after it was begun, also one that is answered before. Somebody who changes
/// a binding all the time does not make the syncer ask all the time.
const LEAST: Duration = Duration::from_millis(500);
/// After so many in a row that were given up, the answer to the next is taken whatever the binding wants by then, as long as
/// it is the same one.
const MAX_OUTDATED: u32 = 3;

/// What became of a question.
pub(super) enum Asked<'a> {
    /// It was answered, and the answer is to be taken: with a worker to write down what there is to write.
    Answered(Result<credential::Answer, Problem>, Option<SemaphorePermit<'a>>),
    /// The binding is another one by now, or wants something else. The pass knows nothing that is worth writing.
    Outdated,
    /// The process is to end: the broker finishes for others, and the next process asks again.
    Ending,
}

/// A question that is open.
struct Open<'a> {
    context: &'a Context,
    binding: Arc<Binding>,
    issue: &'a Issue,
    begun: Instant,
    /// Too many were given up before it.
    is_to_be_answered: bool,
}

impl<'a> Pass<'a> {
    /// Asks the broker. When that takes long, the status says so meanwhile.
    pub(super) async fn ask(&mut self, issue: &Issue) -> Asked<'a> {
        let context = self.context;
        let open = Open {
            context,
            binding: Arc::clone(&self.snapshot.binding),
            issue,
            begun: Instant::now(),
            is_to_be_answered: self.snapshot.memory.outdated >= MAX_OUTDATED,
        };
        let news = context.news.follow(open.binding.key());
        let answer = match self.wait(&open, &news).await {
            Asked::Answered(answer, _none_yet) => answer,
            ended @ (Asked::Outdated | Asked::Ending) => return ended,
        };
        let worker = match &answer {
            Ok(_to_write) => context.limits.worker().await,
            Err(_nothing) => None,
        };
        // After all that there was to wait for: from here on it is written.
        if open.is_outdated() {
            drop(worker);
            return open.give_up().await;
        }
        self.snapshot.memory.outdated = 0;
        Asked::Answered(answer, worker)
    }

    async fn wait(&mut self, open: &Open<'_>, news: &Follower<'_>) -> Asked<'a> {
        let (context, issue) = (self.context, open.issue);
        let urgency = self.urgency(issue);
        let mut end = Box::pin(open.end(news));
        let question = tokio::select! {
            question = Box::pin(credential::prepare(context, &open.binding, issue, urgency)) => question,
            ended = &mut end => return ended,
        };
        let question = match question {
            Ok(question) => question,
            Err(problem) => return Asked::Answered(Err(problem), None),
        };
        let mut answer = Box::pin(question.put(context, issue));
        tokio::select! {
            answer = &mut answer => return Asked::Answered(answer, None),
            ended = &mut end => return ended,
            () = tokio::time::sleep(PATIENCE) => {}
        }
        let asked = async {
            tokio::select! {
                answer = answer => Asked::Answered(answer, None),
                ended = end => ended,
            }
        };
        if self.knows_less_than_the_status() {
            return asked.await;
        }
        let now = self.now();
        let rest = plan::plan(&self.snapshot, now);
        // Both at once: the question holds its turn until its answer is polled, and the report may wait for a worker.
        let (asked, _status_failed) = tokio::join!(asked, Box::pin(self.report(&rest, now)));
        asked
    }

    /// How urgent the question is. One that a person asked for is put at once.
    fn urgency(&self, issue: &Issue) -> Urgency {
        let left = issue
            .held
            .as_ref()
            .map(|held| schedule::elapsed(self.now(), held.expires_at));
        let attempts = self
            .snapshot
            .memory
            .failures
            .as_ref()
            .map_or(0, |run| run.attempts);
        let patience = if issue.force {
            Duration::ZERO
        } else {
            schedule::patience(left, attempts)
        };
        Urgency(self.context.clock.monotonic() + patience)
    }
}

impl Open<'_> {
    /// Waits until it is to be given up.
    async fn end(&self, news: &Follower<'_>) -> Asked<'static> {
        let outdated = async {
            tokio::time::sleep_until(self.begun + LEAST).await;
            while !self.is_outdated() {
                news.changed().await;
            }
        };
        tokio::select! {
            () = outdated => Asked::Outdated,
            () = self.context.shutdown.started() => Asked::Ending,
        }
    }

    /// Gives it up although it is answered.
    async fn give_up(&self) -> Asked<'static> {
        tokio::select! {
            () = tokio::time::sleep_until(self.begun + LEAST) => Asked::Outdated,
            () = self.context.shutdown.started() => Asked::Ending,
        }
    }

    /// Whether the binding as it is now does not want the answer, see [`Issue::is_outdated`].
    fn is_outdated(&self) -> bool {
        let present = self.context.memory.present(&self.binding.key());
        if self.is_to_be_answered {
            return self.issue.is_void(&self.binding, present.as_deref());
        }
        let account = present.as_ref().and_then(|present| {
            let namespace = present.metadata.namespace.as_deref().unwrap_or_default();
            let name = present.identity_account()?;
            self.context.links.account(&links::account_ref(namespace, name))
        });
        self.issue
            .is_outdated(&self.binding, present.as_deref(), account.as_deref())
    }
}

#[cfg(test)]
mod tests;
