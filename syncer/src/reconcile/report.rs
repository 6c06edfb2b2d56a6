//! The end of a pass: what the status says, what is remembered, when to look again.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use runtime::{error_chain::ErrorChain, telemetry::propagation};

use super::{Pass, RETRY};
use crate::{
    execute,
    memory::Echo,
    metrics::PassResult,
    plan::{self, Link, Plan, Step},
    problem::Problem,
    pull_secret, snapshot,
    status::{self, Observation},
};

impl Pass<'_> {
    /// Says how things stand and remembers. The decision is asked once more, for what is left after the steps.
    pub(super) async fn conclude(mut self) -> Option<Duration> {
        let now = self.context.now();
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

        let is_behind = status_failed || self.link_problem.is_some() || self.adopt_problem.is_some();
        let soon = is_behind.then(|| RETRY.mul_f64(1.0 + rand::random::<f64>()));
        let left = rest
            .steps
            .iter()
            .any(|step| matches!(step, Step::Issue(_)))
            .then_some(RETRY);
        let key = self.snapshot.binding.key();
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
    pub(super) async fn report(&mut self, rest: &Plan, now: Timestamp) -> bool {
        let (link, problem) = self.standing(rest);
        let binding = Arc::clone(&self.snapshot.binding);
        let before = snapshot::status(&binding, &mut self.snapshot.memory);
        let memory = &self.snapshot.memory;
        let secret_name = pull_secret::name_of(&binding);
        let trace_id = propagation::current_trace_id();
        let after = status::next(
            &before,
            &Observation {
                generation: binding.metadata.generation,
                secret_name: &secret_name,
                link: &link,
                accounts: &binding.spec.accounts(),
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
        // Where a part is not kept, all of it is written again: the CRD may have been replaced by one that keeps it.
        let base = match (&memory.status_not_kept, &binding.status) {
            (Some(_), watched) => watched.clone().unwrap_or_default(),
            (None, _) => before.clone(),
        };
        let written = match status::merge_patch(&base, &after) {
            Ok(patch) => {
                let _worker = self.context.limits.worker().await;
                execute::write_status(self.context, &binding, patch).await
            }
            Err(error) => {
                tracing::error!(%error, "the status cannot be written as JSON");
                return true;
            }
        };
        match written {
            Ok(kept) => {
                let notices = status::notices(&before, &after);
                let is_kept = !kept.conditions.is_empty();
                if !is_kept {
                    self.context.tell_of_an_older_crd();
                }
                let memory = &mut self.snapshot.memory;
                memory.status_not_kept = (!is_kept).then(|| after.clone());
                memory.status = Some(Echo::after(
                    memory.status.as_ref(),
                    binding.resource_version(),
                    after,
                ));
                memory.status_written_at = Some(now);
                self.context.events.announce(&binding, notices);
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
}
