//! One pass over one binding: read, decide, do, say. The shell around the decision of `plan`; it decides nothing
//! itself. A pass never fails: what stands in the way is in the status, and the return value says when to come back.
//!
//! A pass holds a worker while it does Kubernetes work and gives it back while it waits for the broker, see
//! [`crate::context::Limits`].

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{
    ResourceExt as _,
    runtime::{controller::Action, reflector::ObjectRef},
};
use runtime::{error_chain::ErrorChain, telemetry::propagation};
use tracing::Instrument as _;

use crate::{
    context::Context,
    crd::AcrPullBinding,
    credential, execute,
    links::{self, Linked},
    memory::Echo,
    metrics::{PassResult, RefreshOutcome},
    plan::{self, Issue, Link, Plan, Snapshot, Step},
    problem::Problem,
    pull_secret::{self, PullSecret, SecretState},
    schedule::{self, FailureRun},
    snapshot,
    status::{self, Observation},
};

/// After a failed read or status write; the same again plus jitter at most.
const RETRY: Duration = Duration::from_secs(15);
/// A broker that has not answered by then is worth a word in the status.
const PATIENCE: Duration = Duration::from_secs(2);
/// Stands for the inputs of an attempt that had none: a name that somebody else holds, a link, an owner.
const NO_INPUTS: &str = "";

/// What a pass has come to so far.
struct Pass<'a> {
    context: &'a Context,
    snapshot: Snapshot,
    /// Why the link could not be made.
    link_problem: Option<Problem>,
    /// Why the Secret could not be taken over.
    adopt_problem: Option<Problem>,
}

/// Works on `binding` and says when to look again.
pub async fn reconcile(context: Arc<Context>, binding: Arc<AcrPullBinding>) -> Action {
    // A binding that is being deleted is done for: its Secret goes by owner reference, its link by the keeper.
    if binding.metadata.deletion_timestamp.is_some() {
        return Action::await_change();
    }
    let mut worker = context.limits.worker().await;
    let snapshot = match snapshot::load(&context, binding).await {
        Ok(snapshot) => snapshot,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "cannot look up the Secret");
            return Action::requeue(RETRY.mul_f64(1.0 + rand::random::<f64>()));
        }
    };
    let first = plan::plan(&snapshot, context.now());
    let mut pass = Pass {
        context: &context,
        snapshot,
        link_problem: None,
        adopt_problem: None,
    };
    for step in first.steps {
        match step {
            Step::Link => pass.link().await,
            Step::Adopt(secret) => pass.adopt(&secret).await,
            // What could not be taken over must not be written.
            Step::Issue(_issue) if pass.adopt_problem.is_some() => {}
            Step::Issue(issue) => {
                drop(worker);
                let Some(answer) = pass.ask(&issue).await else {
                    return Action::await_change();
                };
                worker = context.limits.worker().await;
                pass.settle(&issue, answer).await;
            }
        }
    }
    if first.link == Link::Withheld && first.wake_at.is_none() {
        pass.fail(NO_INPUTS, first.problem);
    }
    let wake_after = pass.conclude().await;
    drop(worker);
    wake_after.map_or_else(Action::await_change, Action::requeue)
}

impl Pass<'_> {
    async fn link(&mut self) {
        let binding = &self.snapshot.binding;
        let name = &binding.spec.service_account_name;
        let account = links::account_ref(&binding.namespace().unwrap_or_default(), name);
        let secret_name = pull_secret::name_for(&binding.name_any());
        self.context.links.clear(&account, &secret_name);
        let span = tracing::info_span!(
            "link ServiceAccount",
            otel.kind = "client",
            serviceaccount.name = name
        );
        match self
            .context
            .links
            .settle(&self.context.client, &account)
            .instrument(span)
            .await
        {
            Ok(Linked::Settled | Linked::NoAccount) => {
                self.snapshot.target_account = self.context.links.account(&account);
            }
            Err(error) => {
                self.link_problem = Some(error.into_problem(&format!("link ServiceAccount {name}")));
            }
        }
    }

    async fn adopt(&mut self, secret: &PullSecret) {
        match execute::adopt(self.context, &self.snapshot.binding, secret).await {
            Ok(adopted) => self.wrote(adopted),
            Err(problem) => self.adopt_problem = Some(problem),
        }
    }

    /// Asks the broker. When that takes long, the status says so meanwhile. None when the process is to end: the
    /// broker finishes for others, and the next process asks again.
    async fn ask(&mut self, issue: &Issue) -> Option<Result<credential::Answer, Problem>> {
        let (context, binding) = (self.context, Arc::clone(&self.snapshot.binding));
        let mut answer = std::pin::pin!(credential::ask(context, &binding, issue));
        tokio::select! {
            answer = &mut answer => return Some(answer),
            () = context.shutdown.started() => return None,
            () = tokio::time::sleep(PATIENCE) => {}
        }
        {
            let _worker = context.limits.worker().await;
            let now = context.now();
            self.report(&plan::plan(&self.snapshot, now), now).await;
        }
        tokio::select! {
            answer = answer => Some(answer),
            () = context.shutdown.started() => None,
        }
    }

    /// Stores what the broker answered, or remembers why there is nothing to store.
    async fn settle(&mut self, issue: &Issue, answer: Result<credential::Answer, Problem>) {
        if issue.force {
            self.snapshot.memory.forced_request.clone_from(&issue.request);
        }
        let inputs = &issue.wanted.inputs;
        let answer = match answer {
            Ok(answer) => answer,
            Err(problem) => {
                self.context
                    .metrics
                    .refreshed(RefreshOutcome::failed, Some(problem.reason));
                return self.fail(inputs, Some(problem));
            }
        };
        let outcome = match answer.payload {
            Some(_) => RefreshOutcome::issued,
            None => RefreshOutcome::not_modified,
        };
        let secret = self.secret().cloned();
        let binding = &self.snapshot.binding;
        match execute::store(
            self.context,
            binding,
            secret.as_ref(),
            &answer,
            issue.request.as_deref(),
        )
        .await
        {
            Ok(written) => {
                self.context.metrics.refreshed(outcome, None);
                self.wrote(written);
                self.snapshot.memory.failures = None;
                self.snapshot.memory.degraded = answer.degraded;
                self.snapshot.memory.granted_scope = Some(answer.granted_scope);
            }
            Err(problem) => {
                self.context
                    .metrics
                    .refreshed(RefreshOutcome::failed, Some(problem.reason));
                self.fail(inputs, Some(problem));
            }
        }
    }

    fn secret(&self) -> Option<&PullSecret> {
        match &self.snapshot.secret {
            SecretState::Ours(secret) => Some(secret),
            SecretState::Absent | SecretState::Foreign => None,
        }
    }

    fn wrote(&mut self, secret: PullSecret) {
        let over = self.secret().map(|before| before.resource_version.clone());
        let memory = &mut self.snapshot.memory;
        memory.secret = Some(Echo::after(memory.secret.as_ref(), over, secret.clone()));
        self.snapshot.secret = SecretState::Ours(secret);
    }

    fn fail(&mut self, inputs: &str, problem: Option<Problem>) {
        let Some(problem) = problem else { return };
        let memory = &mut self.snapshot.memory;
        let run = FailureRun::after(
            memory.failures.as_ref(),
            inputs,
            problem,
            self.context.now(),
            rand::random(),
        );
        tracing::warn!(
            reason = run.problem.reason.as_str(),
            problem = run.problem.message,
            attempts = run.attempts,
            retry_after_ms =
                u64::try_from(schedule::elapsed(self.context.now(), run.next_at).as_millis()).ok(),
            "no credential"
        );
        memory.failures = Some(run);
    }

    /// Says how things stand and remembers. The decision is asked once more, for what is left after the steps.
    async fn conclude(mut self) -> Option<Duration> {
        let now = self.context.now();
        let rest = plan::plan(&self.snapshot, now);
        let status_failed = self.report(&rest, now).await;
        let (link, problem) = self.standing(&rest);
        self.measure(&link, problem.as_ref(), now);

        let is_behind = status_failed || self.link_problem.is_some() || self.adopt_problem.is_some();
        let soon = is_behind.then(|| RETRY.mul_f64(1.0 + rand::random::<f64>()));
        let left = rest
            .steps
            .iter()
            .any(|step| matches!(step, Step::Issue(_)))
            .then_some(RETRY);
        let key = ObjectRef::from_obj(self.snapshot.binding.as_ref());
        self.context.memory.keep(key, self.snapshot.memory);
        [rest.wake_after(now), soon, left].into_iter().flatten().min()
    }

    /// How the link stands, and what stands in the way.
    fn standing(&self, rest: &Plan) -> (Link, Option<Problem>) {
        let link = self
            .link_problem
            .clone()
            .map_or_else(|| rest.link.clone(), Link::Failed);
        (link, self.adopt_problem.clone().or_else(|| rest.problem.clone()))
    }

    /// Writes the status and the events if they are due. True if that failed.
    async fn report(&mut self, rest: &Plan, now: Timestamp) -> bool {
        let (link, problem) = self.standing(rest);
        let (binding, memory) = (Arc::clone(&self.snapshot.binding), &self.snapshot.memory);
        let secret_name = pull_secret::name_for(&binding.name_any());
        let trace_id = propagation::current_trace_id();
        let before = snapshot::status(&binding, memory);
        let after = status::next(
            &before,
            &Observation {
                generation: binding.metadata.generation,
                secret_name: &secret_name,
                link: &link,
                account_name: &binding.spec.service_account_name,
                inputs: rest.inputs.as_deref(),
                credential: self.secret().and_then(|secret| secret.credential.as_ref()),
                problem: problem.as_ref(),
                attempts: memory.failures.as_ref().map_or(0, |run| run.attempts),
                degraded: memory.degraded,
                granted_scope: memory.granted_scope.as_deref(),
                trace_id: trace_id.as_deref(),
                now,
            },
        );
        if !status::is_due(&before, &after, memory.status_written_at, now) {
            return false;
        }
        let written = match status::merge_patch(&before, &after) {
            Ok(patch) => execute::write_status(self.context, &binding, patch).await,
            Err(error) => {
                tracing::error!(%error, "the status cannot be written as JSON");
                return true;
            }
        };
        match written {
            Ok(()) => {
                let notices = status::notices(&before, &after);
                let memory = &mut self.snapshot.memory;
                memory.status = Some(Echo::after(
                    memory.status.as_ref(),
                    binding.resource_version(),
                    after,
                ));
                memory.status_written_at = Some(now);
                execute::publish(self.context, &binding, notices).await;
                false
            }
            // It was deleted meanwhile.
            Err(error) if error.is_not_found() => false,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "the status could not be written");
                true
            }
        }
    }

    fn measure(&mut self, link: &Link, problem: Option<&Problem>, now: Timestamp) {
        let metrics = &self.context.metrics;
        let is_ready = self.secret().is_some_and(|secret| secret.credential.is_some()) && problem.is_none();
        let memory = &mut self.snapshot.memory;
        let delay = schedule::elapsed(memory.first_seen, now);
        if *link == Link::Present && !memory.link_measured {
            memory.link_measured = true;
            metrics.linked(delay);
        }
        if is_ready && !memory.ready_measured {
            memory.ready_measured = true;
            metrics.ready(delay);
        }
        let outcome = problem.map_or("settled", |problem| problem.reason.as_str());
        tracing::Span::current().record("acrpull.outcome", outcome);
        metrics.reconciled(if problem.is_some() {
            PassResult::problem
        } else {
            PassResult::success
        });
    }
}
