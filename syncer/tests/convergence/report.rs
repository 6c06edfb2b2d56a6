//! The end of a pass, as `reconcile::report`: the decision is asked once more, for the status and for the time of the next
//! look.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use syncer::{
    crd::AcrPullBindingStatus,
    memory::Echo,
    plan::{Link, Plan, Snapshot, plan},
    problem::Problem,
    pull_secret::{self, SecretState},
    snapshot,
    status::{self, Observation},
};

use crate::{
    pass::Pass,
    server::{Refusal, Write},
    world::World,
};

/// As in the product.
const RETRY: Duration = Duration::from_secs(15);
const SOONEST: Duration = Duration::from_secs(1);

impl World {
    pub(crate) fn conclude(&mut self, mut pass: Pass) -> Option<Duration> {
        let now = self.now_of(&pass.snapshot);
        let rest = plan(&pass.snapshot, now);
        let problem = pass.secret_problem.clone().or_else(|| rest.problem.clone());
        if problem.is_none() {
            pass.snapshot.memory.failures = None;
        }
        let status_failed = self.report(&mut pass, &rest, problem.as_ref(), now);
        let is_behind = status_failed
            || pass.link_problem.is_some()
            || pass.secret_problem.is_some()
            || pass.release_again;
        self.keep(pass);
        let is_left = is_behind || !rest.steps.is_empty();
        let draw = self.draw();
        let soon = is_left.then(|| RETRY.mul_f64(1.0 + draw));
        let pause = rest.wake_after(now).into_iter().chain(soon).min()?;
        Some(if pause < SOONEST {
            SOONEST.mul_f64(1.0 + draw)
        } else {
            pause
        })
    }

    /// True if the status was to be written and was not.
    fn report(&mut self, pass: &mut Pass, rest: &Plan, problem: Option<&Problem>, now: Timestamp) -> bool {
        let link = pass.link_problem.clone();
        let link = link.map_or_else(|| rest.link.clone(), Link::Failed);
        let binding = &pass.snapshot.binding;
        let before = snapshot::status(binding, &mut pass.snapshot.memory);
        let after = status_after(&pass.snapshot, &before, rest, &link, problem, now);
        let memory = &mut pass.snapshot.memory;
        if !status::is_due(&before, &after, memory.status_written_at, now) {
            return false;
        }
        let written = self.send(Write::Status {
            slot: pass.slot,
            uid: binding.uid(),
            patch: status::merge_patch(&before, &after).unwrap(),
        });
        match written {
            Ok(written) => {
                let released = pass.released.clone();
                let over = binding.resource_version().into_iter().chain(released);
                let echo = Echo::after(memory.status.as_ref(), over, after);
                memory.status = Some(echo.at(written.version()));
                memory.status_written_at = Some(now);
                false
            }
            Err(Refusal(404)) => false,
            Err(_refusal) => true,
        }
    }
}

/// What the status is to say.
pub(crate) fn status_after(
    snapshot: &Snapshot,
    before: &AcrPullBindingStatus,
    rest: &Plan,
    link: &Link,
    problem: Option<&Problem>,
    now: Timestamp,
) -> AcrPullBindingStatus {
    let Snapshot {
        binding,
        memory,
        secret,
        ..
    } = snapshot;
    let (credential, peers) = match secret {
        SecretState::Ours(secret) => (secret.credential.as_ref(), secret.peers.as_ref()),
        SecretState::Absent | SecretState::Foreign => (None, None),
    };
    let seen = Observation {
        generation: binding.metadata.generation,
        secret_name: &pull_secret::name_of(binding),
        link,
        accounts: &binding.spec.accounts(),
        inputs: rest.inputs.as_deref(),
        credential,
        peers,
        problem,
        attempts: memory.failures.as_ref().map_or(0, |run| run.attempts),
        degraded: false,
        asked_scope: &binding.spec.acr.scope,
        granted_scope: memory.granted_scope.as_deref(),
        trace_id: None,
        now,
    };
    let after = status::next(before, &seen);
    assert_eq!(status::next(&after, &seen), after, "the status settles");
    after
}
