//! The end of a pass: what the status says, what is remembered, when to look again.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use proto::Reason;
use runtime::telemetry::propagation;

use super::{Pass, RETRY, RETRY_OUTPACED, SOONEST, release::Release};
use crate::{
    binding::Binding,
    context::Secrets,
    crd::AcrPullBindingStatus,
    execute::{self, WrittenStatus},
    memory::Echo,
    metrics::PassResult,
    plan::{self, Link, Plan, Snapshot},
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
        let unwritten = self.report(&rest, now).await;
        let (outcome, result) = match &problem {
            Some(problem) => (problem.reason.as_str(), PassResult::problem),
            None => ("settled", PassResult::success),
        };
        tracing::Span::current().record("acrpull.outcome", outcome);
        self.context.metrics.reconciled(result);

        let problems = self.link_problem.iter().chain(&self.secret_problem);
        let failed = problems.map(|problem| RETRY.max(problem.retry_after.unwrap_or_default()));
        let again = matches!(self.release, Release::Again).then_some(RETRY);
        let behind = failed.chain(unwritten).chain(again).max();
        let pause = next_look(&rest, behind, now, rand::random());
        let key = self.snapshot.binding.key();
        self.context.memory.keep(key, self.snapshot.memory);
        pause
    }

    /// Ends the pass where somebody else was faster: nothing is said, and what they wrote is looked at soon.
    pub(super) fn give_way(self) -> Duration {
        self.leave("outpaced", PassResult::outpaced);
        RETRY_OUTPACED.mul_f64(1.0 + rand::random::<f64>())
    }

    /// Ends the pass whose binding is another one by now: nothing is said of the one that it read. The change has woken the
    /// next pass, which begins when this one is over.
    pub(super) fn give_up(mut self) -> Option<Duration> {
        let memory = &mut self.snapshot.memory;
        memory.outdated = memory.outdated.saturating_add(1);
        self.leave("outdated", PassResult::outdated);
        None
    }

    /// Remembers what was done, and says nothing of it in the status.
    fn leave(self, outcome: &'static str, result: PassResult) {
        tracing::Span::current().record("acrpull.outcome", outcome);
        self.context.metrics.reconciled(result);
        let key = self.snapshot.binding.key();
        self.context.memory.keep(key, self.snapshot.memory);
    }

    /// How the link stands, and what stands in the way.
    fn standing(&self, rest: &Plan) -> (Link, Option<Problem>) {
        let link = self
            .link_problem
            .clone()
            .map_or_else(|| rest.link.clone(), Link::Failed);
        (link, self.secret_problem.clone().or_else(|| rest.problem.clone()))
    }

    /// Writes the status and the events if they are due. If that failed, after which pause to try again.
    pub(super) async fn report(&mut self, rest: &Plan, now: Timestamp) -> Option<Duration> {
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
            return None;
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
                return Some(RETRY);
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
                memory.status_denied = None;
                None
            }
            // It was deleted meanwhile.
            Err(error) if error.is_not_found() => None,
            Err(error) => {
                self.context.tell_of_an_unwritten_status(&error);
                self.tell_of_a_denial(&binding, &error.problem("write the status of the binding"));
                Some(RETRY.max(error.retry_after().unwrap_or_default()))
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
                status::is_failing(status) && status.observed_generation == binding.metadata.generation
            })
    }

    /// Publishes what is new, and what goes on and was told long ago.
    /// A status cannot say that it may not be written, so an event does.
    fn tell_of_a_denial(&mut self, binding: &Binding, problem: &Problem) {
        let memory = &mut self.snapshot.memory;
        if is_news(memory.status_denied, problem.reason) {
            memory.status_denied = Some(problem.reason);
            let notice = Notice::warning(problem.reason.as_str(), "Report", &*problem.message);
            self.context.events.announce(binding, vec![notice]);
        }
    }

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

/// Whether the application team is to hear why the status cannot be written: Kubernetes denies it, and that was not told.
fn is_news(told: Option<Reason>, reason: Reason) -> bool {
    matches!(reason, Reason::AdmissionDenied | Reason::KubernetesDenied) && told != Some(reason)
}

/// When to look again: when the plan says so, and before long if a step is left, or something is `behind` that is to be
/// tried again after such a pause. `draw` is a number in [0, 1).
fn next_look(rest: &Plan, behind: Option<Duration>, now: Timestamp, draw: f64) -> Option<Duration> {
    let left = (!rest.steps.is_empty()).then_some(RETRY);
    let soon = behind.or(left).map(|pause| pause.mul_f64(1.0 + draw));
    let pause = rest.wake_after(now).into_iter().chain(soon).min()?;
    Some(if pause < SOONEST {
        SOONEST.mul_f64(1.0 + draw)
    } else {
        pause
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::ToSpan as _;

    use super::*;
    use crate::{plan::Step, samples::now};

    #[test]
    fn b18_status_that_may_not_be_written_is_told_once_for_each_reason() {
        let denied = [Reason::AdmissionDenied, Reason::KubernetesDenied];
        for (reason, other) in denied.into_iter().zip(denied.into_iter().rev()) {
            assert!(is_news(None, reason));
            assert!(!is_news(Some(reason), reason));
            assert!(is_news(Some(other), reason));
        }
        // It heals by itself, and the next attempt may be told what has not been.
        assert!(!is_news(None, Reason::KubernetesUnreachable));
    }

    fn done() -> Plan {
        Plan {
            steps: Vec::new(),
            link: Link::Present,
            may_link: true,
            inputs: None,
            problem: None,
            wake_at: None,
        }
    }

    #[test]
    fn next_look_is_never_at_once_whatever_the_plan_says() {
        for wake_at in [now() - 1.hour(), now(), now() + 999.milliseconds()] {
            let rest = Plan {
                wake_at: Some(wake_at),
                steps: vec![Step::Link("web".to_owned())],
                ..done()
            };
            for (draw, pause) in [(0.0, 1_000), (0.5, 1_500)] {
                let expected = Some(Duration::from_millis(pause));
                assert_eq!(next_look(&rest, Some(RETRY), now(), draw), expected);
            }
        }
    }

    #[test]
    fn next_look_at_a_step_that_is_left_is_before_long() {
        let refresh = Plan {
            wake_at: Some(now() + 30.minutes()),
            ..done()
        };
        let half_an_hour = Some(Duration::from_secs(30 * 60));
        assert_eq!(next_look(&refresh, None, now(), 0.0), half_an_hour);
        // A link that is there and not yet in the store.
        let left = Plan {
            steps: vec![Step::Link("web".to_owned())],
            ..refresh
        };
        assert_eq!(next_look(&left, None, now(), 0.0), Some(RETRY));
        let a_minute = Some(Duration::from_secs(60));
        assert_eq!(
            next_look(&left, a_minute, now(), 0.0),
            a_minute,
            "as the API server asked"
        );
        assert_eq!(next_look(&done(), a_minute, now(), 0.0), a_minute);
        assert_eq!(next_look(&done(), None, now(), 0.0), None);
    }
}
