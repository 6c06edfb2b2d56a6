//! The question to the broker: it is put, waited for, and given up when nobody wants its answer any more. A pass has its
//! object to itself, so a change would otherwise wait until the broker answers or gives up.

use std::{sync::Arc, time::Duration};

use tokio::sync::SemaphorePermit;

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

/// A question is given up no sooner than so long after it was begun. Somebody who changes a binding all the time does not
/// make the syncer ask all the time.
const LEAST: Duration = Duration::from_millis(500);

/// What became of a question.
pub(super) enum Asked<'a> {
    /// It was answered, and the answer is wanted: with a worker to write down what there is to write.
    Answered(Result<credential::Answer, Problem>, Option<SemaphorePermit<'a>>),
    /// The binding is another one by now, or wants something else. The pass knows nothing that is worth writing.
    Outdated,
    /// The process is to end: the broker finishes for others, and the next process asks again.
    Ending,
}

impl<'a> Pass<'a> {
    /// Asks the broker. When that takes long, the status says so meanwhile.
    pub(super) async fn ask(&mut self, issue: &Issue) -> Asked<'a> {
        let (context, binding) = (self.context, Arc::clone(&self.snapshot.binding));
        let news = context.news.follow(binding.key());
        let answer = match self.wait(issue, &news).await {
            Asked::Answered(answer, _none_yet) => answer,
            ended @ (Asked::Outdated | Asked::Ending) => return ended,
        };
        let worker = match &answer {
            Ok(_to_write) => context.limits.worker().await,
            Err(_nothing) => None,
        };
        // After all that there was to wait for: from here on it is written.
        if is_outdated(context, &binding, issue) {
            return Asked::Outdated;
        }
        Asked::Answered(answer, worker)
    }

    async fn wait(&mut self, issue: &Issue, news: &Follower<'_>) -> Asked<'a> {
        let (context, binding) = (self.context, Arc::clone(&self.snapshot.binding));
        let urgency = self.urgency(issue);
        let mut end = Box::pin(end(context, &binding, issue, news));
        let question = tokio::select! {
            question = Box::pin(credential::prepare(context, &binding, issue, urgency)) => question,
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

/// Waits until the question is to be given up.
async fn end(context: &Context, asked_for: &Binding, issue: &Issue, news: &Follower<'_>) -> Asked<'static> {
    let outdated = async {
        tokio::time::sleep(LEAST).await;
        while !is_outdated(context, asked_for, issue) {
            news.changed().await;
        }
    };
    tokio::select! {
        () = outdated => Asked::Outdated,
        () = context.shutdown.started() => Asked::Ending,
    }
}

/// Whether the binding as it is now does not want the answer, see [`Issue::is_outdated`].
fn is_outdated(context: &Context, asked_for: &Binding, issue: &Issue) -> bool {
    let present = context.memory.present(&asked_for.key());
    let account = present.as_ref().and_then(|present| {
        let namespace = present.metadata.namespace.as_deref().unwrap_or_default();
        let name = present.identity_account()?;
        context.links.account(&links::account_ref(namespace, name))
    });
    issue.is_outdated(asked_for, present.as_deref(), account.as_deref())
}

#[cfg(test)]
mod tests;
