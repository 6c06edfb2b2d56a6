//! One pass over one binding: read, decide, do, say. The shell around the decision of `plan`; it decides nothing
//! itself. A pass never fails: what stands in the way is in the status, and the return value says when to come back.
//!
//! A pass holds a worker only while it does Kubernetes work and never while it waits for the broker or for its turn at
//! a ServiceAccount, see [`crate::context::Limits`].

mod report;
mod steps;

use std::{sync::Arc, time::Duration};

use kube::runtime::controller::Action;
use runtime::error_chain::ErrorChain;

use crate::{
    binding::Binding,
    context::Context,
    plan::{self, Link, Snapshot, Step},
    problem::Problem,
    snapshot,
};

/// After a failed read or status write; the same again plus jitter at most.
const RETRY: Duration = Duration::from_secs(15);
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
    /// Why the Secret could not be taken over.
    adopt_problem: Option<Problem>,
}

/// Works on `binding` and says when to look again.
pub async fn reconcile(context: Arc<Context>, binding: Arc<Binding>) -> Action {
    // A binding that is being deleted is done for: its Secret goes by owner reference, its link by the keeper.
    if binding.metadata.deletion_timestamp.is_some() {
        return Action::await_change();
    }
    let worker = context.limits.first_worker().await;
    let snapshot = match snapshot::load(&context, binding).await {
        Ok(snapshot) => snapshot,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "cannot look up the Secret");
            return Action::requeue(RETRY.mul_f64(1.0 + rand::random::<f64>()));
        }
    };
    let first = plan::plan(&snapshot, context.now());
    // Told before anything is done: whoever works on the ServiceAccount meanwhile makes the link as well.
    let key = snapshot.binding.key();
    context.memory.allow_link(&key, first.link != Link::Withheld);
    let mut pass = Pass {
        context: &context,
        snapshot,
        link_problem: None,
        adopt_problem: None,
    };
    drop(worker);
    for step in first.steps {
        match step {
            Step::Link(account) => pass.link(&account).await,
            Step::Adopt(secret) => pass.adopt(&secret).await,
            // What could not be taken over must not be written.
            Step::Issue(_issue) if pass.adopt_problem.is_some() => {}
            Step::Issue(issue) => match pass.ask(&issue).await {
                Some(answer) => pass.settle(&issue, answer).await,
                None => return Action::await_change(),
            },
        }
    }
    if first.link == Link::Withheld && first.wake_at.is_none() {
        pass.fail(NO_INPUTS, first.problem);
    }
    pass.conclude()
        .await
        .map_or_else(Action::await_change, Action::requeue)
}
