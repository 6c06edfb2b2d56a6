//! What is to be done for a binding, as ordered steps. Pure: everything that the decision needs is in the
//! [`Snapshot`], and the time is passed in. Every case of the domain is decided here and nowhere else.
//!
//! The order is the promise: the ServiceAccount is linked before the broker is asked (a kubelet tolerates a missing
//! Secret and tries again, so a Pod of the first second works as soon as the Secret is there), and a Secret is taken
//! over before it is written. What the peer left is ours, link and Secret, before its finalizer goes: it may be deleted
//! the moment after.

mod contested;
mod handover;
mod outdated;

use std::sync::Arc;

use k8s_openapi::{api::core::v1::ServiceAccount, jiff::Timestamp};
use kube::ResourceExt as _;
use proto::Reason;

use crate::{
    allowed_servers::AllowedServers,
    binding::Binding,
    contest::Fight,
    finalizer::{self, Claim},
    links::{self, Due, Target},
    memory::BindingMemory,
    problem::Problem,
    pull_secret::{self, Credential, PullSecret, REFRESH_REQUESTED, SecretState},
    schedule::{self, FailureRun},
    wanted::{self, Wanted},
};

pub use crate::links::Link;

/// Everything that the decision depends on, read at one time.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The binding.
    pub binding: Arc<Binding>,
    /// The ServiceAccounts that are to be able to pull.
    pub targets: Vec<Target>,
    /// The ServiceAccount that names and proves the identity, if there is one and it exists.
    pub identity_account: Option<Arc<ServiceAccount>>,
    /// The Secret under the binding's name for it.
    pub secret: SecretState,
    /// Somebody keeps overwriting or deleting it.
    pub secret_fight: Option<Fight>,
    /// What the process remembers.
    pub memory: BindingMemory,
    /// The registries that tokens are asked for.
    pub allowed_servers: AllowedServers,
    /// When the Secret is to be written again although nothing has changed: where it may not be read.
    pub reapply_at: Option<Timestamp>,
}

/// What is to be done, and how things stand if nothing of it fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In this order; the first that fails stops those that need it.
    pub steps: Vec<Step>,
    /// How the links stand before the steps.
    pub link: Link,
    /// Whether whoever works on a ServiceAccount meanwhile may make this binding's link as well.
    pub may_link: bool,
    /// What the credential is wanted for, if that is known.
    pub inputs: Option<String>,
    /// What stands in the way already, before any step.
    pub problem: Option<Problem>,
    /// When to look again although nothing happened.
    pub wake_at: Option<Timestamp>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// List the Secret in the `imagePullSecrets` of this ServiceAccount.
    Link(String),
    /// Make this binding the owner of a Secret that an earlier one, or the peer, left.
    Adopt(PullSecret),
    /// Remove the peer's finalizer.
    Release,
    /// Ask the broker and store what it answers.
    Issue(Box<Issue>),
}

/// A question to the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Issue {
    /// What to ask for.
    pub wanted: Wanted,
    /// The credential in the Secret, if it was issued for the same inputs: it may be good enough.
    pub held: Option<Credential>,
    /// Ask Azure again although an error is remembered there.
    pub force: bool,
    /// The refresh request that this answers.
    pub request: Option<String>,
}

/// Decides.
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    if snapshot.secret == SecretState::Foreign {
        return foreign(&snapshot.binding, &snapshot.memory, now);
    }
    let Due {
        link,
        accounts,
        wake_at,
    } = links::due(&snapshot.targets, &pull_secret::name_of(&snapshot.binding), now);
    let claim = finalizer::claim(snapshot.memory.handover.as_ref(), &snapshot.binding, now);
    let mut plan = secret(snapshot, link, claim, now);
    // Another controller is at work: not even a link is made.
    if matches!(claim, Claim::Contested { .. }) {
        return plan;
    }
    if snapshot.memory.unread.is_foreign {
        return plan.withhold_links();
    }
    plan.steps.splice(0..0, accounts.into_iter().map(Step::Link));
    // A removal that Kubernetes refused is tried again, whatever else there is to do.
    let release_at = match claim {
        Claim::Inherited { not_before } => not_before,
        Claim::Ours | Claim::Settling { .. } | Claim::Contested { .. } => None,
    };
    let also = wake_at.into_iter().chain(release_at);
    plan.wake_at = plan.wake_at.into_iter().chain(also).min();
    contested::hold_back(&mut plan, snapshot, now);
    plan
}

/// Decides on what is to become of a Secret that is not somebody else's.
fn secret(snapshot: &Snapshot, link: Link, claim: Claim, now: Timestamp) -> Plan {
    let (binding, reapply_at) = (&snapshot.binding, snapshot.reapply_at);
    let secret = match &snapshot.secret {
        SecretState::Foreign | SecretState::Absent => None,
        SecretState::Ours(secret) => Some(secret),
    };
    let wanted = wanted::read(binding, snapshot.identity_account.as_deref()).and_then(|wanted| {
        let allowed = snapshot.allowed_servers.check(&wanted.registry);
        allowed.map(|()| wanted)
    });
    if let Claim::Contested { until } = claim {
        let inputs = wanted.ok().map(|wanted| wanted.inputs);
        return handover::contested(link, inputs, secret, until, now);
    }
    let adopt = secret.filter(|secret| !secret.adopted).cloned().map(Step::Adopt);
    let release = claim.is_removal_due().then_some(Step::Release);
    let mut plan = Plan {
        steps: adopt.into_iter().chain(release).collect(),
        link,
        may_link: true,
        inputs: None,
        problem: None,
        wake_at: None,
    };
    let wanted = match wanted {
        Ok(wanted) => wanted,
        // Only a change of the binding or of a ServiceAccount helps, and both are watched.
        Err(problem) => {
            plan.problem = Some(problem);
            let held = secret.and_then(|secret| secret.credential.as_ref());
            plan.wake_at = handover::ends_at(held, secret).filter(|at| *at > now);
            return plan;
        }
    };
    plan.inputs = Some(wanted.inputs.clone());
    let held = secret
        .and_then(|secret| secret.credential.clone())
        .filter(|held| held.inputs == wanted.inputs);
    let request = binding.annotations().get(REFRESH_REQUESTED).cloned();
    let answered = secret.and_then(|secret| secret.answered_request.as_ref());
    let is_requested = request.is_some() && request.as_ref() != answered;
    // One attempt by force per request; the attempts after it follow the schedule like any other.
    let force = is_requested && request != snapshot.memory.forced_request;

    let is_fresh = held.as_ref().is_some_and(|held| held.is_fresh(now));
    let is_to_reapply = reapply_at.is_some_and(|at| at <= now);
    let rest_until = match &held {
        _ if is_requested || is_to_reapply => None,
        Some(held) if is_fresh => [held.refresh_at, held.expires_at]
            .into_iter()
            .chain(reapply_at)
            .min(),
        held => handover::may_wait(claim, held.as_ref(), secret, now),
    };
    if rest_until.is_some() {
        plan.wake_at = rest_until;
        return plan;
    }
    let failures = snapshot.memory.failures.as_ref();
    // What was in the way of a Secret that is gone is gone with it.
    let is_over = |run: &FailureRun| {
        run.problem.reason == Reason::SecretConflict
            && snapshot.secret == SecretState::Absent
            && reapply_at.is_none()
    };
    let failures = failures.filter(|run| run.inputs == wanted.inputs && !is_over(run));
    plan.problem = failures.map(|run| run.problem.clone());
    match failures {
        Some(run) if now < run.next_at && !force => {
            let expires_at = handover::ends_at(held.as_ref(), secret).filter(|at| *at > now);
            plan.wake_at = Some(expires_at.map_or(run.next_at, |at| at.min(run.next_at)));
        }
        Some(_) | None => plan.steps.push(Step::Issue(Box::new(Issue {
            wanted,
            // Where the Secret may not be read, nobody knows that it still holds this.
            held: held.filter(|_held| reapply_at.is_none()),
            force,
            request,
        }))),
    }
    plan
}

/// Nothing is written and nobody is asked. Such a Secret is not watched, so it is looked at again by the clock.
fn foreign(binding: &Binding, memory: &BindingMemory, now: Timestamp) -> Plan {
    let name = pull_secret::name_of(binding);
    let problem = Problem::new(
        Reason::SecretConflict,
        format!(
            "Secret {name} exists and does not belong to this binding; delete or rename it, or rename the binding"
        ),
    );
    let run = memory
        .failures
        .as_ref()
        .filter(|run| run.problem == problem && now < run.next_at);
    let wake_at = run.map(|run| run.next_at);
    Plan {
        steps: Vec::new(),
        link: Link::Withheld,
        may_link: false,
        inputs: None,
        problem: Some(problem),
        wake_at,
    }
}

impl Plan {
    /// How long until the next look.
    pub fn wake_after(&self, now: Timestamp) -> Option<std::time::Duration> {
        self.wake_at.map(|at| schedule::elapsed(now, at))
    }

    /// Where a Secret may not be read, the last write has met somebody else's. Only the next write shows whose it is now,
    /// and before that it is not linked, nor is the binding wholly ours.
    fn withhold_links(mut self) -> Self {
        self.link = Link::Withheld;
        self.may_link = false;
        self.steps.retain(|step| *step != Step::Release);
        self
    }
}

impl Step {
    /// Whether it is not to be done after what became of those before it: a link could not be made, or the Secret is not
    /// known any more, or could not be taken over.
    pub fn is_barred(&self, link_failed: bool, secret_failed: bool) -> bool {
        match self {
            Self::Link(_) | Self::Adopt(_) => false,
            // What is not wholly ours yet stays the peer's.
            Self::Release => link_failed || secret_failed,
            // What could not be taken over must not be written.
            Self::Issue(_) => secret_failed,
        }
    }
}

#[cfg(test)]
mod tests;
