//! A Secret that somebody keeps overwriting or deleting: what a plan does not do yet. Pure.

use k8s_openapi::jiff::Timestamp;
use proto::Reason;

use super::{Issue, Plan, Snapshot, Step};
use crate::{
    problem::Problem,
    pull_secret::{self, SecretState},
};

/// Takes out the steps that would only repair what the last repair did not keep, until the pause has passed. As long as the
/// fight goes on the plan says so, also while the last repair holds: a status that followed each round would be one
/// more thing that is written over and over.
pub(super) fn hold_back(plan: &mut Plan, snapshot: &Snapshot, now: Timestamp) {
    let Some(fight) = snapshot.secret_fight.filter(|fight| now < fight.over_at) else {
        return;
    };
    let mut look_at = fight.over_at;
    if now < fight.next_at {
        let before = plan.steps.len();
        plan.steps.retain(|step| !repairs(step, snapshot));
        if plan.steps.len() < before {
            look_at = fight.next_at;
        }
    }
    let name = pull_secret::name_of(&snapshot.binding);
    plan.problem.get_or_insert_with(|| {
        let message = format!(
            "somebody else keeps overwriting or deleting Secret {name}: it is restored ever less often"
        );
        Problem::new(Reason::Contested, message)
    });
    plan.wake_at = plan.wake_at.into_iter().chain([look_at]).min();
}

/// A person who asks for a new token gets it, and so does another spec.
fn repairs(step: &Step, snapshot: &Snapshot) -> bool {
    let is_unadopted = matches!(&snapshot.secret, SecretState::Ours(secret) if !secret.adopted);
    match step {
        Step::Link(_) => false,
        Step::Adopt(_) => true,
        // What is not wholly ours yet stays the peer's.
        Step::Release => is_unadopted,
        Step::Issue(issue) => {
            let was_written = snapshot.memory.stored_inputs.as_ref() == Some(&issue.wanted.inputs);
            (is_unadopted && !issue.force) || (was_written && issue.restores(snapshot))
        }
    }
}

impl Issue {
    /// Whether its payload goes where none of ours is: the first, or once more because somebody overwrote or deleted it. Of a
    /// Secret that may not be read nobody knows that, so no write of it counts.
    pub fn restores(&self, snapshot: &Snapshot) -> bool {
        self.held.is_none() && !self.force && snapshot.reapply_at.is_none()
    }
}
