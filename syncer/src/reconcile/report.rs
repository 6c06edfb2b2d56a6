//! The end of a pass: what the status says, what is remembered, when to look again.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt as _, runtime::controller::Action};
use runtime::telemetry::propagation;

use super::{Pass, RETRY_OUTPACED, release::Release, retry};
use crate::{
    binding::Binding,
    context::Secrets,
    crd::AcrPullBindingStatus,
    execute::{self, WrittenStatus},
    memory::Echo,
    metrics::PassResult,
    plan::{self, Link, Plan, Snapshot, Step},
    problem::Problem,
    pull_secret, snapshot,
    status::{self, Names, Notice, Observation},
    unread_secret,
};

impl Pass<'_> {
    /// Says how things stand and remembers. The decision is asked once more, for what is left after the steps.
    pub(super) async fn conclude(mut self) -> Option<Duration> {
        let now = self.now();
        let rest = plan::plan(&self.snapshot, now);
        let (_link, problem) = self.standing(&rest);
        if problem.is_none() {
            self.snapshot.memory.failures = None;
        }
        let status_failed = self.report(&rest, now).await;
        let (outcome, result) = match &problem {
            Some(problem) => (problem.reason.as_str(), PassResult::problem),
            None => ("settled", PassResult::success),
        };
        tracing::Span::current().record("acrpull.outcome", outcome);
        self.context.metrics.reconciled(result);

        let is_behind = status_failed
            || self.link_problem.is_some()
            || self.secret_problem.is_some()
            || matches!(self.release, Release::Again);
        let soon = is_behind.then(retry);
        let left = rest
            .steps
            .iter()
            .any(|step| matches!(step, Step::Issue(_)))
            .then(retry);
        let key = self.snapshot.binding.key();
        self.context.memory.keep(key, self.snapshot.memory);
        [rest.wake_after(now), soon, left].into_iter().flatten().min()
    }

    /// Ends the pass where somebody else was faster: nothing is said, and what they wrote is looked at soon.
    pub(super) fn give_way(self) -> Action {
        tracing::Span::current().record("acrpull.outcome", "outpaced");
        let key = self.snapshot.binding.key();
        self.context.memory.keep(key, self.snapshot.memory);
        Action::requeue(RETRY_OUTPACED.mul_f64(1.0 + rand::random::<f64>()))
    }

    /// How the link stands, and what stands in the way.
    fn standing(&self, rest: &Plan) -> (Link, Option<Problem>) {
        let link = self
            .link_problem
            .clone()
            .map_or_else(|| rest.link.clone(), Link::Failed);
        (link, self.secret_problem.clone().or_else(|| rest.problem.clone()))
    }

    /// Writes the status and the events if they are due. True if that failed.
    pub(super) async fn report(&mut self, rest: &Plan, now: Timestamp) -> bool {
        let (link, problem) = self.standing(rest);
        let binding = Arc::clone(&self.snapshot.binding);
        let before = snapshot::status(&binding, &mut self.snapshot.memory);
        let memory = &self.snapshot.memory;
        let secret_name = pull_secret::name_of(&binding);
        let trace_id = propagation::current_trace_id();
        let told = match self.context.secrets {
            Secrets::Watched(_) => None,
            Secrets::Unread(_) => self.secret().and_then(unread_secret::record),
        };
        let after = status::next(
            &before,
            &Observation {
                generation: binding.metadata.generation,
                secret_name: &secret_name,
                link: &link,
                accounts: &binding.spec.accounts(),
                inputs: rest.inputs.as_deref(),
                credential: self.secret().and_then(|secret| secret.credential.as_ref()),
                peers: self.secret().and_then(|secret| secret.peers.as_ref()),
                problem: problem.as_ref(),
                attempts: memory.failures.as_ref().map_or(0, |run| run.attempts),
                degraded: memory.degraded,
                asked_scope: &binding.spec.acr.scope,
                granted_scope: memory.granted_scope.as_deref(),
                trace_id: trace_id.as_deref(),
                now,
            },
        );
        let after = AcrPullBindingStatus {
            credential: told,
            ..after
        };
        let names = Names {
            secret: &secret_name,
            account: &binding.spec.service_account_name,
        };
        if !status::is_due(&before, &after, memory.status_written_at, now) {
            self.tell(&binding, &after, &names, Vec::new(), now);
            return false;
        }
        // Where a part is not kept, all of it is written again: the CRD may have been replaced by one that keeps it.
        let base = match (&memory.status_not_kept, &binding.status) {
            (Some(_), watched) => watched.clone().unwrap_or_default(),
            (None, _) => before.clone(),
        };
        let written = match status::merge_patch(&base, &after) {
            Ok(patch) => {
                let _worker = self.context.limits.worker().await;
                let uid = binding.metadata.uid.as_deref();
                execute::write_status(self.context, &binding.key(), uid, patch).await
            }
            Err(error) => {
                tracing::error!(%error, "the status cannot be written as JSON");
                return true;
            }
        };
        match written {
            Ok(WrittenStatus { kept, version }) => {
                let notices = status::notices(&before, &after, &names);
                self.tell(&binding, &after, &names, notices, now);
                let is_kept = !kept.conditions.is_empty();
                if !is_kept {
                    self.context.tell_of_an_older_crd();
                }
                let memory = &mut self.snapshot.memory;
                memory.status_not_kept = (!is_kept).then(|| after.clone());
                let released = match &self.release {
                    Release::Done(version) => Some(version.clone()),
                    Release::Nothing | Release::Again => None,
                };
                let over = binding.resource_version().into_iter().chain(released);
                memory.status = Some(Echo::after(memory.status.as_ref(), over, after).at(version));
                memory.status_written_at = Some(now);
                false
            }
            // It was deleted meanwhile.
            Err(error) if error.is_not_found() => false,
            Err(error) => {
                self.context.tell_of_an_unwritten_status(&error);
                true
            }
        }
    }

    /// Whether the process before this one wrote what fails with this spec, and this one has not got that far. To say now
    /// that it is in progress would make the failure a new one when it goes on.
    pub(super) fn knows_less_than_the_status(&self) -> bool {
        let Snapshot { binding, memory, .. } = &self.snapshot;
        memory.status_written_at.is_none()
            && memory.failures.is_none()
            && binding.status.as_ref().is_some_and(|status| {
                status.error.is_some() && status.observed_generation == binding.metadata.generation
            })
    }

    /// Publishes what is new, and what goes on and was told long ago.
    fn tell(
        &mut self,
        binding: &Binding,
        after: &AcrPullBindingStatus,
        names: &Names<'_>,
        mut notices: Vec<Notice>,
        now: Timestamp,
    ) {
        self.snapshot
            .memory
            .reminder
            .remind(after, names, &mut notices, now);
        self.context.events.announce(binding, notices);
    }
}
