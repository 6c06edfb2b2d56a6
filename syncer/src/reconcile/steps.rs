//! The steps of a pass, each with what it means for the rest of it.

use kube::ResourceExt as _;
use tracing::Instrument as _;

use super::{MAX_OUTPACED, NO_INPUTS, Pass};
use crate::{
    context::Secrets,
    credential,
    execute::{self, StoreError},
    links::{self, Linked},
    memory::Echo,
    metrics::RefreshOutcome,
    plan::{self, Issue, Plan, Snapshot, Step},
    problem::Problem,
    pull_secret::{self, PullSecret, SecretState},
    schedule::{self, FailureRun},
    snapshot,
    status::Notice,
    unread_secret,
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
                self.look_at_fights();
                self.measure_link(name);
            }
            Err(error) => {
                self.link_problem = Some(error.into_problem(&format!("link ServiceAccount {name}")));
            }
        }
    }

    /// Makes the links that waited for a write to show that the Secret is not somebody else's.
    pub(super) async fn link_after_all(&mut self) {
        let rest = plan::plan(&self.snapshot, self.now());
        let binding = &self.snapshot.binding;
        self.context.memory.allow_link(binding, rest.may_link);
        for step in rest.steps {
            if let Step::Link(account) = step {
                Box::pin(self.link(&account)).await;
            }
        }
    }

    pub(super) async fn adopt(&mut self, secret: &PullSecret) {
        let _worker = self.context.limits.worker().await;
        match execute::adopt(self.context, &self.snapshot.binding, secret).await {
            Ok(adopted) => {
                self.count_write();
                self.look_at_fights();
                let notice = Notice::adopted(&pull_secret::name_of(&self.snapshot.binding));
                self.context.events.announce(&self.snapshot.binding, vec![notice]);
                self.wrote(adopted);
            }
            Err(error) => self.secret_problem = self.unless_outpaced(error),
        }
    }

    /// Stores what the broker answered, or remembers why there is nothing to store.
    pub(super) async fn settle(&mut self, issue: &Issue, answer: Result<credential::Answer, Problem>) {
        if issue.force {
            self.snapshot.memory.forced_request.clone_from(&issue.request);
        }
        // Whatever comes of it: one that fails is not to be tried again at once.
        self.put_off_the_next_write();
        let inputs = &issue.wanted.inputs;
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(problem) => {
                self.context
                    .metrics
                    .refreshed(RefreshOutcome::failed, Some(problem.reason));
                return self.fail(inputs, Some(problem));
            }
        };
        let secret = self.secret().cloned();
        let held = secret.as_ref().and_then(|secret| secret.credential.as_ref());
        let outcome = match held {
            Some(held) if held.fingerprint == answer.credential.fingerprint => RefreshOutcome::not_modified,
            Some(_) | None => RefreshOutcome::issued,
        };
        let (now, request) = (self.now(), issue.request.as_deref());
        let is_unread = self.snapshot.reapply_at.is_some();
        if is_unread && unread_secret::is_better(secret.as_ref(), &answer.credential, request, now) {
            self.context.metrics.refreshed(RefreshOutcome::not_modified, None);
            self.snapshot.memory.failures = None;
            return;
        }
        let binding = &self.snapshot.binding;
        let stored = match &self.context.secrets {
            Secrets::Watched(_) => execute::store(self.context, binding, secret.as_ref(), &answer, request)
                .await
                .map(SecretState::Ours),
            Secrets::Unread(guard_rails) => {
                let (context, known) = (self.context, &self.snapshot.memory.unread.known);
                answer.credential = unread_secret::settled(secret.as_ref(), &answer.credential, now);
                execute::store_unread(context, guard_rails, binding, known, &answer, request).await
            }
        };
        match stored {
            Ok(SecretState::Ours(written)) => {
                self.context.metrics.refreshed(outcome, None);
                self.measure_readiness();
                let moment = self.context.clock.moment();
                self.snapshot
                    .memory
                    .steady
                    .wrote(written.credential.as_ref(), moment);
                self.put_off_the_next_write();
                self.count_repair(issue);
                self.wrote(written);
                self.snapshot.memory.failures = None;
                self.snapshot.memory.degraded = answer.degraded;
                self.snapshot.memory.granted_scope = Some(answer.granted_scope);
            }
            Ok(SecretState::Foreign | SecretState::Absent) => self.met_a_foreign_secret(),
            Err(error) => {
                if let Some(problem) = self.unless_outpaced(error) {
                    self.context
                        .metrics
                        .refreshed(RefreshOutcome::failed, Some(problem.reason));
                    self.fail(inputs, Some(problem));
                }
            }
        }
    }

    /// The problem, unless somebody else was merely faster: then the pass is for nothing, and nothing has failed.
    fn unless_outpaced(&mut self, error: StoreError) -> Option<Problem> {
        if matches!(error, StoreError::Outpaced(_)) {
            self.lose_sight();
        }
        let memory = &mut self.snapshot.memory;
        match error {
            StoreError::Outpaced(_) if memory.outpaced < MAX_OUTPACED => {
                memory.outpaced += 1;
                // What we wrote before is not the newest any more.
                memory.secret = None;
                self.is_outpaced = true;
                None
            }
            StoreError::Outpaced(problem) | StoreError::Refused(problem) => Some(problem),
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
        memory.outpaced = 0;
        match self.context.secrets {
            Secrets::Watched(_) => {
                memory.secret = Some(Echo::after(memory.secret.as_ref(), over, secret.clone()));
            }
            Secrets::Unread(_) => memory.unread.saw(&SecretState::Ours(secret.clone())),
        }
        self.snapshot.secret = SecretState::Ours(secret);
    }

    /// A Secret that may not be read has shown, by a write that was refused, that it is somebody else's.
    fn met_a_foreign_secret(&mut self) {
        self.snapshot.memory.unread.saw(&SecretState::Foreign);
        self.snapshot.secret = SecretState::Foreign;
        self.context.memory.allow_link(&self.snapshot.binding, false);
        let problem = plan::plan(&self.snapshot, self.now()).problem;
        let reason = problem.as_ref().map(|problem| problem.reason);
        self.context.metrics.refreshed(RefreshOutcome::failed, reason);
        self.fail(NO_INPUTS, problem);
    }

    /// Looks at a Secret that may not be read, if it is to be written on hearsay otherwise. True if more is known by that. A
    /// look that came to nothing says nothing about the Secret, which is not written before one has.
    pub(super) async fn look(&mut self, next: &Plan) -> bool {
        let writes = |step: &Step| matches!(step, Step::Adopt(_) | Step::Issue(_));
        let is_to_be_written = next.steps.iter().any(writes);
        let is_hearsay = match self.context.secrets {
            Secrets::Watched(_) => false,
            Secrets::Unread(_) => self.snapshot.memory.unread.is_hearsay(),
        };
        if !is_hearsay || !is_to_be_written {
            return false;
        }
        let binding = &self.snapshot.binding;
        let seen = match Box::pin(snapshot::unread::look(self.context, binding)).await {
            Ok(Some(seen)) => seen,
            Ok(None) => return false,
            Err(error) => {
                let tried = format!("look at Secret {}", pull_secret::name_of(binding));
                self.secret_problem = Some(error.into_problem(&tried).of_the_secret());
                return false;
            }
        };
        let (memory, moment) = (&mut self.snapshot.memory, self.context.clock.moment());
        memory.unread.saw(&seen);
        memory.steady.saw(seen.credential(), moment);
        self.snapshot.secret = seen;
        true
    }

    /// A Secret that may not be read is not as it was known: a write was refused for that.
    fn lose_sight(&mut self) {
        if matches!(self.context.secrets, Secrets::Unread(_)) {
            self.snapshot.memory.unread.forget();
            self.snapshot.secret = SecretState::Absent;
        }
    }

    /// A Secret that may not be read was to be written, now.
    fn put_off_the_next_write(&mut self) {
        if self.snapshot.reapply_at.is_some() {
            self.snapshot.memory.unread.tried_at = Some(self.now());
            let Snapshot { binding, memory, .. } = &self.snapshot;
            self.snapshot.reapply_at = Some(unread_secret::reapply_at(binding, memory));
        }
    }

    pub(super) fn fail(&mut self, inputs: &str, problem: Option<Problem>) {
        let Some(problem) = problem else { return };
        let now = self.now();
        let left = self
            .snapshot
            .secret
            .credential()
            .filter(|held| held.inputs == inputs && held.expires_at > now)
            .map(|held| schedule::elapsed(now, held.expires_at));
        let memory = &mut self.snapshot.memory;
        let mut run = FailureRun::after(memory.failures.as_ref(), inputs, problem, now, rand::random());
        if let Some(left) = left {
            run = run.with_credential_left(left, now, rand::random());
        }
        tracing::warn!(
            reason = run.problem.reason.as_str(),
            problem = run.problem.message,
            azure.request_id = run.problem.azure_request_id,
            attempts = run.attempts,
            retry_after_ms = u64::try_from(schedule::elapsed(now, run.next_at).as_millis()).ok(),
            "no credential"
        );
        memory.failures = Some(run);
        memory.steady.failed(self.context.clock.moment());
    }

    /// To see whether a name is free costs one small call, and nobody tells.
    pub(super) fn look_again_soon(&mut self) {
        let now = self.now();
        let memory = &mut self.snapshot.memory;
        let run = memory.failures.take();
        memory.failures = run.map(|run| run.looked_at(now, rand::random()));
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

#[cfg(test)]
mod tests;
