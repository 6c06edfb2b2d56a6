//! One pass over one binding: read, decide, do, say. The shell around the decision of `plan`; it decides nothing
//! itself. A pass never fails: what stands in the way is in the status, and the return value says when to come back.
//!
//! In a burst there are as many passes as bindings, and most of them wait. So each step is a future of its own in memory of
//! its own, for as long as it runs, and a pass that waits holds little more than what it read.
//!
//! A pass holds a worker only while it does Kubernetes work and never while it waits for the broker or for its turn at
//! a ServiceAccount, see [`crate::context::Limits`]. While it waits for the broker it hears of changes of its binding, and
//! leaves to the next pass what it knows too little of, see `question`.

mod fights;
mod question;
mod release;
mod report;
mod steps;

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;

use self::{question::Asked, release::Release};
use crate::{
    binding::Binding,
    context::Context,
    plan::{self, Link, Snapshot, Step},
    problem::Problem,
    pull_secret::{self, SecretState},
    snapshot,
};

/// After somebody else was faster at the Secret; the same again plus jitter at most. By then the watch shows what they
/// wrote.
const RETRY_OUTPACED: Duration = Duration::from_millis(500);
/// After so many in a row it is no race, and the schedule of failures takes over.
const MAX_OUTPACED: u32 = 5;
/// After a failed read or status write; the same again plus jitter at most.
const RETRY: Duration = Duration::from_secs(15);
/// Whatever a plan says, the next pass comes no sooner than this; the same again plus jitter at most. A time that has
/// passed and a step that is not done must not keep a worker busy.
const SOONEST: Duration = Duration::from_secs(1);
/// A broker that has not answered by then is worth a word in the status. Counted from when the question is put: in a
/// burst of bindings most of the time goes by in the queue before it, and a word for each would double the writes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Stands for the inputs of an attempt that had none, because the name belongs to somebody else.
const NO_INPUTS: &str = "";

/// What a pass has come to so far.
struct Pass<'a> {
    context: &'a Context,
    snapshot: Snapshot,
    /// Why a link could not be made.
    link_problem: Option<Problem>,
    /// Why the Secret could not be read or taken over.
    secret_problem: Option<Problem>,
    /// What became of the peer's finalizer.
    release: Release,
    /// Somebody else was faster at the Secret: this pass knows too little to go on.
    is_outpaced: bool,
}

/// Works on `binding` and says after which pause to look again, if nothing changes before.
pub async fn reconcile(context: Arc<Context>, binding: Arc<Binding>) -> Option<Duration> {
    // A binding that is being deleted is done for: its Secret goes by owner reference, its link by the keeper, and the
    // peer's finalizer, if it has that, by `finalizer::leaving`.
    if binding.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let worker = context.limits.first_worker().await;
    let (snapshot, secret_problem) = match Box::pin(snapshot::load(&context, Arc::clone(&binding))).await {
        Ok(snapshot) => (snapshot, None),
        Err(error) => {
            let tried = format!("look up Secret {}", pull_secret::name_of(&binding));
            let problem = error.into_problem(&tried).of_the_secret();
            (snapshot::without_secret(&context, binding), Some(problem))
        }
    };
    let mut pass = Pass {
        context: &context,
        snapshot,
        link_problem: None,
        secret_problem,
        release: Release::default(),
        is_outpaced: false,
    };
    // Nobody knows whose the Secret is, so nothing is linked, asked for or written before that is known.
    if pass.secret_problem.is_some() {
        drop(worker);
        return pass.finish().await;
    }
    let mut first = plan::plan(&pass.snapshot, pass.now());
    if Box::pin(pass.look(&first)).await {
        first = plan::plan(&pass.snapshot, pass.now());
    }
    // Told before anything is done: whoever works on the ServiceAccount meanwhile makes the link as well.
    context.memory.allow_link(&pass.snapshot.binding, first.may_link);
    let is_new_conflict = pass.snapshot.secret == SecretState::Foreign && first.wake_at.is_none();
    drop(worker);
    for step in first.steps {
        let secret_failed = pass.secret_problem.is_some() || pass.is_outpaced;
        if step.is_barred(pass.link_problem.is_some(), secret_failed) {
            continue;
        }
        match step {
            Step::Link(account) => Box::pin(pass.link(&account)).await,
            Step::Adopt(secret) => Box::pin(pass.adopt(&secret)).await,
            Step::Release => Box::pin(pass.release()).await,
            Step::Issue(issue) => match Box::pin(pass.ask(&issue)).await {
                Asked::Answered(answer, worker) => {
                    Box::pin(pass.settle(&issue, answer)).await;
                    drop(worker);
                }
                Asked::Outdated => return pass.give_up(),
                Asked::Ending => return None,
            },
        }
    }
    if pass.is_outpaced {
        return Some(pass.give_way());
    }
    if first.link == Link::Withheld {
        Box::pin(pass.link_after_all()).await;
    }
    if is_new_conflict {
        pass.fail(NO_INPUTS, first.problem);
        pass.look_again_soon();
    }
    pass.finish().await
}

impl Pass<'_> {
    /// The time by which it is decided what is due.
    fn now(&self) -> Timestamp {
        self.snapshot.memory.steady.now(self.context.clock.moment())
    }

    /// Says how things stand, and when to look again.
    async fn finish(self) -> Option<Duration> {
        Box::pin(self.conclude()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a pass that waits holds besides what it read. In a burst there are as many as there are bindings.
    #[test]
    fn pass_that_waits_is_small() {
        fn size<F>(_pass: impl Fn(Arc<Context>, Arc<Binding>) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(reconcile);
        assert!(size <= 6 * 1024, "{size} bytes");
    }
}
