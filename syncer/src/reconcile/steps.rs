//! The steps of a pass, each with what it means for the rest of it.

use std::sync::Arc;

use kube::ResourceExt as _;
use tracing::Instrument as _;

use super::{PATIENCE, Pass};
use crate::{
    contest::Contest,
    credential, execute,
    links::{self, Linked},
    memory::Echo,
    metrics::RefreshOutcome,
    plan::{self, Issue},
    problem::Problem,
    pull_secret::{self, PullSecret, SecretState},
    schedule::{self, FailureRun},
    snapshot,
};

impl Pass<'_> {
    pub(super) async fn link(&mut self, name: &str) {
        let binding = &self.snapshot.binding;
        let account = links::account_ref(&binding.namespace().unwrap_or_default(), name);
        let secret_name = pull_secret::name_of(binding);
        let span = tracing::info_span!(
            "link ServiceAccount",
            otel.kind = "client",
            serviceaccount.name = name
        );
        match self
            .context
            .links
            .settle(self.context, &account, Some(&secret_name))
            .instrument(span)
            .await
        {
            Ok(Linked::Settled | Linked::NoAccount) => {
                self.snapshot.targets = snapshot::targets(self.context, binding);
                self.measure_link(name);
            }
            Err(error) => {
                self.link_problem = Some(error.into_problem(&format!("link ServiceAccount {name}")));
            }
        }
    }

    pub(super) async fn adopt(&mut self, secret: &PullSecret) {
        let _worker = self.context.limits.worker().await;
        match execute::adopt(self.context, &self.snapshot.binding, secret).await {
            Ok(adopted) => {
                self.snapshot
                    .memory
                    .secret_contest
                    .wrote(self.context.now(), rand::random());
                self.wrote(adopted);
            }
            Err(problem) => self.adopt_problem = Some(problem),
        }
    }

    /// Asks the broker. When that takes long, the status says so meanwhile. None when the process is to end: the
    /// broker finishes for others, and the next process asks again.
    pub(super) async fn ask(&mut self, issue: &Issue) -> Option<Result<credential::Answer, Problem>> {
        let (context, binding) = (self.context, Arc::clone(&self.snapshot.binding));
        let question = tokio::select! {
            question = credential::prepare(context, &binding, issue) => question,
            () = context.shutdown.started() => return None,
        };
        let question = match question {
            Ok(question) => question,
            Err(problem) => return Some(Err(problem)),
        };
        let mut answer = std::pin::pin!(question.put(context, issue));
        tokio::select! {
            answer = &mut answer => return Some(answer),
            () = context.shutdown.started() => return None,
            () = tokio::time::sleep(PATIENCE) => {}
        }
        let now = context.now();
        let rest = plan::plan(&self.snapshot, now);
        let answer = async {
            tokio::select! {
                answer = answer => Some(answer),
                () = context.shutdown.started() => None,
            }
        };
        // Both at once: the question holds its slot until its answer is polled, and the report may wait for a worker.
        let (answer, _status_failed) = tokio::join!(answer, self.report(&rest, now));
        answer
    }

    /// Stores what the broker answered, or remembers why there is nothing to store.
    pub(super) async fn settle(&mut self, issue: &Issue, answer: Result<credential::Answer, Problem>) {
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
        let _worker = self.context.limits.worker().await;
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
                self.measure_readiness();
                self.count_repair(issue);
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

    pub(super) fn secret(&self) -> Option<&PullSecret> {
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

    /// A payload that was written where none of ours was: the first, or once more because somebody overwrote it.
    fn count_repair(&mut self, issue: &Issue) {
        let (memory, inputs) = (&mut self.snapshot.memory, &issue.wanted.inputs);
        if memory.stored_inputs.as_ref() != Some(inputs) {
            memory.stored_inputs = Some(inputs.clone());
            memory.secret_contest = Contest::default();
        }
        if issue.held.is_none() && !issue.force {
            memory.secret_contest.wrote(self.context.now(), rand::random());
        }
    }

    pub(super) fn fail(&mut self, inputs: &str, problem: Option<Problem>) {
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
            azure.request_id = run.problem.azure_request_id,
            attempts = run.attempts,
            retry_after_ms =
                u64::try_from(schedule::elapsed(self.context.now(), run.next_at).as_millis()).ok(),
            "no credential"
        );
        memory.failures = Some(run);
    }

    /// Once, for a link that this process made: from when both binding and ServiceAccount were there.
    fn measure_link(&mut self, name: &str) {
        let target = self.snapshot.targets.iter().find(|target| target.name == name);
        let Some(account) = target
            .and_then(|target| target.account.as_ref())
            .filter(|_account| !self.snapshot.memory.link_measured)
        else {
            return;
        };
        let created_at = account.metadata.creation_timestamp.as_ref().map(|at| at.0);
        let since = created_at.map_or(self.snapshot.memory.first_seen, |at| {
            at.max(self.snapshot.memory.first_seen)
        });
        self.context
            .metrics
            .linked(schedule::elapsed(since, self.context.now()));
        self.snapshot.memory.link_measured = true;
    }

    /// Once, for the first credential that this process stored.
    fn measure_readiness(&mut self) {
        let memory = &mut self.snapshot.memory;
        if !memory.ready_measured {
            memory.ready_measured = true;
            self.context
                .metrics
                .ready(schedule::elapsed(memory.first_seen, self.context.now()));
        }
    }
}
