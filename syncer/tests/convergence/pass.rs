//! A pass, as `reconcile` makes it: the steps in the order of the plan, and what one that fails stops. A link that fails
//! stops the removal of the peer's finalizer; a Secret that cannot be taken over stops that and the question to the
//! broker; a lost race ends the pass. Then the plan is asked once more, for the status and for the time of the next look.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use kube::ResourceExt as _;
use proto::Reason;
use serde_json::json;
use syncer::{
    contest::Contest,
    crd::AcrPullBindingStatus,
    credential, finalizer, links,
    plan::{Issue, Link, Plan, Snapshot, Step, plan},
    problem::Problem,
    pull_secret::{self, PullSecret, SecretState},
    schedule::{FailureRun, elapsed, later},
    status::{self, Observation},
};

use crate::{
    server::{Key, Refusal, secret_key},
    world::World,
};

/// As in the product: lost races in a row that are no failure, and when to come back.
const MAX_OUTPACED: u32 = 5;
const RETRY_OUTPACED: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_secs(15);
const SOONEST: Duration = Duration::from_secs(1);
const NO_INPUTS: &str = "";
const MAX_CONFLICTS: usize = 5;

struct Pass<'a> {
    world: &'a mut World,
    slot: usize,
    snapshot: Snapshot,
    link_problem: Option<Problem>,
    secret_problem: Option<Problem>,
    release_again: bool,
    is_outpaced: bool,
}

impl World {
    /// Works on a binding and says when to look again.
    pub(crate) fn pass(&mut self, slot: usize) -> Option<Timestamp> {
        self.watch();
        let (now, draw) = (self.now, self.draw());
        let mut memory = self.remembered(slot);
        let binding = &self.server.objects.bindings[&slot];
        memory.handover = finalizer::observe(memory.handover, binding, now, draw);
        let snapshot = self.snapshot(slot, memory);
        let first = plan(&snapshot, now);
        self.memory.allow_link(&snapshot.binding, first.may_link);
        let is_new_conflict = snapshot.secret == SecretState::Foreign && first.wake_at.is_none();
        let mut pass = Pass {
            world: self,
            slot,
            snapshot,
            link_problem: None,
            secret_problem: None,
            release_again: false,
            is_outpaced: false,
        };
        for step in first.steps {
            let secret_failed = pass.secret_problem.is_some() || pass.is_outpaced;
            if step.is_barred(pass.link_problem.is_some(), secret_failed) {
                continue;
            }
            match step {
                Step::Link(account) => pass.link(account),
                Step::Adopt(secret) => pass.adopt(&secret),
                Step::Release => pass.release(),
                Step::Issue(issue) => pass.issue(&issue),
            }
        }
        if pass.is_outpaced {
            pass.keep();
            return Some(later(now, RETRY_OUTPACED));
        }
        if is_new_conflict {
            pass.fail(NO_INPUTS, first.problem);
        }
        pass.conclude()
    }

    /// Brings the links of a ServiceAccount to what they should be; as `links::keeper`.
    pub(crate) fn settle_links(&mut self, key: &Key, secret_name: Option<&str>) -> Result<(), Refusal> {
        let mut refused = Ok(());
        for _attempt in 0..MAX_CONFLICTS {
            let Some(mut account) = self.server.objects.accounts.get(key).cloned() else {
                return Ok(());
            };
            links::slim(&mut account);
            if secret_name.is_some_and(|name| links::has(&account, name)) {
                return Ok(());
            }
            let known: BTreeSet<_> = self.server.claims(key).collect();
            let bindings = self.server.objects.bindings.values().filter(|binding| {
                binding.spec.is_for(&key.1)
                    && binding.metadata.namespace.as_ref() == Some(&key.0)
                    && self.memory.allows_link(binding)
            });
            let mut wanted: BTreeSet<_> = bindings.map(pull_secret::name_of).collect();
            let mut missing = wanted.clone();
            missing.retain(|name| !links::has(&account, name));
            let held_back = self.contests.held_back(&account, &missing, self.monotonic());
            wanted.retain(|name| !held_back.contains(name));
            let gone = links::record(&account).difference(&known).cloned().collect();
            let Some(change) = links::change(&account, &wanted, &gone) else {
                return Ok(());
            };
            let patch = change.merge_patch(account.metadata.resource_version.as_deref());
            match self.server.patch_account(key, &patch) {
                Ok(after) => {
                    let (now, draw) = (self.monotonic(), self.draw());
                    self.contests
                        .wrote(&after, missing.difference(&held_back), now, draw);
                    self.contests.removed(&after, &gone);
                    return Ok(());
                }
                Err(refusal @ Refusal(409)) => refused = Err(refusal),
                Err(refusal) => return Err(refusal),
            }
        }
        refused
    }
}

impl Pass<'_> {
    fn link(&mut self, account: String) {
        let (namespace, secret_name) = secret_key(&self.snapshot.binding);
        match self.world.settle_links(&(namespace, account), Some(&secret_name)) {
            Ok(()) => self.snapshot.targets = self.world.targets(&self.snapshot.binding),
            Err(refusal) => self.link_problem = Some(problem(refusal)),
        }
    }

    fn adopt(&mut self, secret: &PullSecret) {
        let adoption = pull_secret::adoption(&self.snapshot.binding);
        let patch = json!({"metadata": {
            "uid": secret.uid,
            "resourceVersion": secret.resource_version,
            "labels": adoption.labels,
            "ownerReferences": adoption.owner_references,
        }});
        let key = secret_key(&self.snapshot.binding);
        let written = self.world.server.patch_secret(&key, &patch);
        match self.judged(written) {
            Ok(adopted) => {
                let (now, draw) = (self.world.monotonic(), self.world.draw());
                self.snapshot.memory.secret_contest.wrote(now, draw);
                self.wrote(adopted);
            }
            Err(refusal) => self.secret_problem = self.unless_outpaced(refusal),
        }
    }

    fn release(&mut self) {
        let (now, draw) = (self.world.now, self.world.draw());
        let binding = &self.snapshot.binding;
        let known = self.snapshot.memory.handover.as_ref();
        match self
            .world
            .server
            .patch_binding(self.slot, &finalizer::removal(&binding.metadata))
        {
            Ok(()) => {
                let over = binding.resource_version().unwrap_or_default();
                self.snapshot.memory.handover = Some(finalizer::after_removal(known, over, now, draw));
            }
            Err(Refusal(403 | 422)) => {
                self.snapshot.memory.handover = Some(finalizer::after_refusal(known, binding, now, draw));
            }
            Err(_refusal) => self.release_again = true,
        }
    }

    fn issue(&mut self, issue: &Issue) {
        let (now, draws) = (self.world.now, [self.world.draw(), self.world.draw()]);
        let draw = self.world.draw();
        let answer = self.world.broker.answer(issue, now, draws);
        let answer = answer.and_then(|response| credential::read(response, issue, now, draw));
        if issue.force {
            self.snapshot.memory.forced_request.clone_from(&issue.request);
        }
        let inputs = &issue.wanted.inputs;
        let answer = match answer {
            Ok(answer) => answer,
            Err(problem) => return self.fail(inputs, Some(problem)),
        };
        let stored = self.store(&answer, issue.request.as_deref());
        match self.judged(stored) {
            Ok(written) => {
                let is_repair = issue.restores(&self.snapshot);
                let memory = &mut self.snapshot.memory;
                if memory.stored_inputs.as_ref() != Some(inputs) {
                    memory.stored_inputs = Some(inputs.clone());
                    memory.secret_contest = Contest::default();
                }
                if is_repair {
                    memory.secret_contest.wrote(self.world.monotonic(), draw);
                }
                memory.failures = None;
                memory.granted_scope = Some(answer.granted_scope);
                self.wrote(written);
            }
            Err(refusal) => {
                let problem = self.unless_outpaced(refusal);
                self.fail(inputs, problem);
            }
        }
    }

    /// The whole Secret, or only the times when the payload is there already.
    fn store(&mut self, answer: &credential::Answer, request: Option<&str>) -> Result<ObjectMeta, Refusal> {
        let binding = &self.snapshot.binding;
        let annotations = pull_secret::annotations(binding, &answer.credential, request);
        let server = &mut self.world.server;
        let held = match &self.snapshot.secret {
            SecretState::Ours(secret) => Some(secret),
            SecretState::Absent | SecretState::Foreign => None,
        };
        let of = |secret: &PullSecret| (secret.uid.clone(), secret.resource_version.clone());
        let (uid, resource_version) = held.map(of).unzip();
        let Some(payload) = &answer.payload else {
            let metadata = json!({
                "uid": uid,
                "resourceVersion": resource_version,
                "annotations": annotations,
            });
            return server.patch_secret(&secret_key(binding), &json!({ "metadata": metadata }));
        };
        let mut object = pull_secret::object(binding, payload, annotations);
        object.metadata.uid = uid;
        object.metadata.resource_version = resource_version;
        server.apply_secret(&object, held.is_some())
    }

    fn judged(&self, written: Result<ObjectMeta, Refusal>) -> Result<PullSecret, Refusal> {
        match pull_secret::judge(&written?, &self.snapshot.binding) {
            SecretState::Ours(secret) => Ok(secret),
            SecretState::Absent | SecretState::Foreign => panic!("what was written is somebody else's"),
        }
    }

    fn wrote(&mut self, secret: PullSecret) {
        self.snapshot.memory.outpaced = 0;
        self.snapshot.secret = SecretState::Ours(secret);
    }

    fn unless_outpaced(&mut self, refusal: Refusal) -> Option<Problem> {
        let memory = &mut self.snapshot.memory;
        if refusal == Refusal(409) && memory.outpaced < MAX_OUTPACED {
            memory.outpaced += 1;
            self.is_outpaced = true;
            return None;
        }
        Some(problem(refusal).of_the_secret())
    }

    fn fail(&mut self, inputs: &str, problem: Option<Problem>) {
        let Some(problem) = problem else { return };
        let (now, draws) = (self.world.now, [self.world.draw(), self.world.draw()]);
        let held = self.snapshot.secret.credential();
        let left = held
            .filter(|held| held.inputs == inputs && held.expires_at > now)
            .map(|held| elapsed(now, held.expires_at));
        let known = self.snapshot.memory.failures.as_ref();
        let mut run = FailureRun::after(known, inputs, problem, now, draws[0]);
        if let Some(left) = left {
            run = run.with_credential_left(left, now, draws[1]);
        }
        self.snapshot.memory.failures = Some(run);
    }

    fn conclude(mut self) -> Option<Timestamp> {
        let now = self.world.now;
        self.snapshot.secret_fight = self.world.secret_fight(&self.snapshot.memory);
        self.snapshot.targets = self.world.targets(&self.snapshot.binding);
        let rest = plan(&self.snapshot, now);
        let problem = self.secret_problem.clone().or_else(|| rest.problem.clone());
        if problem.is_none() {
            self.snapshot.memory.failures = None;
        }
        let status_failed = self.report(&rest, problem.as_ref());
        let is_behind = status_failed
            || self.link_problem.is_some()
            || self.secret_problem.is_some()
            || self.release_again;
        let is_left = !rest.steps.is_empty();
        self.keep();
        let soon = (is_behind || is_left).then(|| later(now, RETRY));
        let next = rest.wake_at.into_iter().chain(soon).min()?;
        Some(next.max(later(now, SOONEST)))
    }

    /// True if the status was to be written and was not.
    fn report(&mut self, rest: &Plan, problem: Option<&Problem>) -> bool {
        let now = self.world.now;
        let link = self
            .link_problem
            .clone()
            .map_or_else(|| rest.link.clone(), Link::Failed);
        let after = status_after(&self.snapshot, rest, &link, problem, now);
        let before = self.snapshot.binding.status.clone().unwrap_or_default();
        let memory = &mut self.snapshot.memory;
        if !status::is_due(&before, &after, memory.status_written_at, now) {
            return false;
        }
        let written = self.world.server.write_status(self.slot, after);
        if written.is_ok() {
            memory.status_written_at = Some(now);
        }
        written.is_err()
    }

    fn keep(self) {
        self.world
            .memory
            .keep(self.snapshot.binding.key(), self.snapshot.memory);
    }
}

/// What the status is to say.
pub(crate) fn status_after(
    snapshot: &Snapshot,
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
    let after = status::next(&binding.status.clone().unwrap_or_default(), &seen);
    assert_eq!(status::next(&after, &seen), after, "the status settles");
    after
}

/// What a refusal means; in the product `kube_calls::refusal` reads more than the code.
fn problem(Refusal(code): Refusal) -> Problem {
    let reason = match code {
        403 => Reason::KubernetesDenied,
        422 => Reason::SecretConflict,
        _ => Reason::KubernetesUnreachable,
    };
    Problem::new(reason, format!("refused with {code}"))
}
