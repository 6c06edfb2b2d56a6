//! The steps of a pass, as `reconcile::steps` and `execute` make them.

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use kube::ResourceExt;
use proto::Reason;
use serde_json::json;
use syncer::{
    contest::Contest,
    credential,
    execute::fence,
    finalizer::{self, Handover},
    links,
    memory::Echo,
    plan::{Issue, Snapshot},
    problem::Problem,
    pull_secret::{self, PullSecret, REFRESH_REQUESTED, SecretState},
    schedule::{FailureRun, elapsed},
    steady,
};

use crate::{
    meaning::Meaning,
    pass::Pass,
    server::{Basis, Refusal, Write, Written, secret_key},
    world::World,
};

/// As in the product: lost races in a row that are no failure.
const MAX_OUTPACED: u32 = 5;
/// As in the product: with less left the peer is not waited for.
const LEAST_LEFT: Duration = Duration::from_secs(10 * 60);

impl World {
    pub(crate) fn link(&mut self, pass: &mut Pass, account: String) {
        let (namespace, secret_name) = secret_key(pass.slot);
        match self.settle_links(pass.process, &(namespace, account), Some(&secret_name)) {
            Ok(()) => self.look_at_fights(pass),
            Err(refusal) => pass.link_problem = Some(problem(refusal)),
        }
    }

    pub(crate) fn adopt(&mut self, pass: &mut Pass, secret: &PullSecret) {
        let adoption = pull_secret::adoption(&pass.snapshot.binding);
        let patch = json!({"metadata": {
            "uid": secret.uid,
            "resourceVersion": secret.resource_version,
            "labels": adoption.labels,
            "ownerReferences": adoption.owner_references,
        }});
        let basis = pass.basis(None);
        match self.write_secret(pass, Write::SecretMetadata { patch, basis }) {
            Ok(adopted) => {
                self.count_write(pass);
                self.look_at_fights(pass);
                pass.wrote(adopted);
            }
            Err(refusal) => pass.secret_problem = pass.unless_outpaced(refusal),
        }
    }

    pub(crate) fn release(&mut self, pass: &mut Pass) {
        let (now, draw) = (self.now_of(&pass.snapshot), self.draw());
        // One that was decided on another version of the binding is refused.
        let binding = self.server.objects.bindings.get(&pass.slot);
        let version = binding.and_then(ResourceExt::resource_version);
        if version == pass.snapshot.binding.resource_version() {
            pass.is_wholly_ours();
        }
        let patch = finalizer::removal(&pass.snapshot.binding.metadata);
        let sent = self.send(Write::Finalizer {
            slot: pass.slot,
            patch,
        });
        let binding = &pass.snapshot.binding;
        let known = pass.snapshot.memory.handover.as_ref();
        match sent {
            Ok(written) => {
                let over = binding.resource_version().unwrap_or_default();
                pass.snapshot.memory.handover = Some(finalizer::after_removal(known, over, now, draw));
                pass.released = written.version();
            }
            Err(Refusal(404)) => {}
            Err(Refusal(403 | 422)) => {
                pass.snapshot.memory.handover = Some(finalizer::after_refusal(known, binding, now, draw));
            }
            Err(_refusal) => pass.release_again = true,
        }
    }

    pub(crate) fn issue(&mut self, pass: &mut Pass, issue: &Issue) {
        pass.may_ask(issue, self.now_of(&pass.snapshot));
        let draws = [self.draw(), self.draw()];
        let (draw, moment) = (self.draw(), self.clock.moment());
        let binding = &pass.snapshot.binding;
        let answer = self.broker.answer(binding, issue, self.clock.right(), draws);
        let now = steady::time_of_day(moment);
        let answer = answer.and_then(|response| credential::read(response, issue, now, draw));
        if issue.force {
            pass.snapshot.memory.forced_request.clone_from(&issue.request);
        }
        let inputs = &issue.wanted.inputs;
        let answer = match answer {
            Ok(answer) => answer,
            Err(problem) => return self.fail(pass, inputs, Some(problem)),
        };
        match self.store(pass, issue, &answer) {
            Ok(written) => {
                pass.snapshot
                    .memory
                    .steady
                    .wrote(written.credential.as_ref(), moment);
                self.count_repair(pass, issue);
                pass.wrote(written);
                pass.snapshot.memory.failures = None;
                pass.snapshot.memory.granted_scope = Some(answer.granted_scope);
            }
            Err(refusal) => {
                let problem = pass.unless_outpaced(refusal);
                self.fail(pass, inputs, problem);
            }
        }
    }

    /// The whole Secret, or only the times when the payload is there already.
    fn store(
        &mut self,
        pass: &Pass,
        issue: &Issue,
        answer: &credential::Answer,
    ) -> Result<PullSecret, Refusal> {
        let binding = &pass.snapshot.binding;
        let annotations = pull_secret::annotations(binding, &answer.credential, issue.request.as_deref());
        let (held, basis) = (pass.secret(), pass.basis(Some(issue)));
        let write = match (&answer.payload, held) {
            (Some(payload), held) => {
                let object = pull_secret::object(binding, payload, annotations);
                Write::Secret {
                    object: Box::new(fence::over(object, held)),
                    is_forced: held.is_some(),
                    basis,
                }
            }
            (None, held) => {
                let held = held.unwrap();
                let patch = json!({"metadata": {
                    "uid": held.uid,
                    "resourceVersion": held.resource_version,
                    "annotations": annotations,
                }});
                Write::SecretMetadata { patch, basis }
            }
        };
        self.write_secret(pass, write)
    }

    fn write_secret(&mut self, pass: &Pass, write: Write) -> Result<PullSecret, Refusal> {
        let metadata = self.send(write)?.secret();
        match pull_secret::judge(&metadata, &pass.snapshot.binding) {
            SecretState::Ours(secret) => Ok(secret),
            SecretState::Absent | SecretState::Foreign => panic!("what was written is somebody else's"),
        }
    }

    /// As `reconcile::fights`.
    fn count_repair(&mut self, pass: &mut Pass, issue: &Issue) {
        let (memory, inputs) = (&mut pass.snapshot.memory, &issue.wanted.inputs);
        if memory.stored_inputs.as_ref() != Some(inputs) {
            memory.stored_inputs = Some(inputs.clone());
            memory.secret_contest = Contest::default();
        }
        if issue.restores(&pass.snapshot) {
            self.count_write(pass);
        }
        self.look_at_fights(pass);
    }

    fn count_write(&mut self, pass: &mut Pass) {
        let (now, draw) = (self.clock.monotonic(), self.draw());
        pass.snapshot.memory.secret_contest.wrote(now, draw);
    }

    pub(crate) fn fail(&mut self, pass: &mut Pass, inputs: &str, problem: Option<Problem>) {
        let Some(problem) = problem else { return };
        let (now, draws) = (self.now_of(&pass.snapshot), [self.draw(), self.draw()]);
        let held = pass.snapshot.secret.credential();
        let left = held
            .filter(|held| held.inputs == inputs && held.expires_at > now)
            .map(|held| elapsed(now, held.expires_at));
        let memory = &mut pass.snapshot.memory;
        let mut run = FailureRun::after(memory.failures.as_ref(), inputs, problem, now, draws[0]);
        if let Some(left) = left {
            run = run.with_credential_left(left, now, draws[1]);
        }
        memory.failures = Some(run);
        memory.steady.failed(self.clock.moment());
    }
}

impl Pass {
    fn secret(&self) -> Option<&PullSecret> {
        match &self.snapshot.secret {
            SecretState::Ours(secret) => Some(secret),
            SecretState::Absent | SecretState::Foreign => None,
        }
    }

    /// What the peer left is ours before its finalizer goes, unless that only asks whether the peer is there.
    fn is_wholly_ours(&self) {
        let Snapshot { memory, targets, .. } = &self.snapshot;
        if matches!(memory.handover, Some(Handover::Returned { .. })) {
            return;
        }
        assert!(
            self.secret().is_none_or(|secret| secret.adopted),
            "the finalizer goes before the Secret is taken over"
        );
        let (_namespace, secret_name) = secret_key(self.slot);
        for target in targets.iter().filter(|target| target.fight.is_none()) {
            let account = target.account.as_ref();
            assert!(
                account.is_none_or(|account| links::has(account, &secret_name)),
                "the finalizer goes before {} is linked",
                target.name
            );
        }
    }

    /// What is asked for can be written, and is not there by the peer, of which it is not known yet whether it is gone.
    fn may_ask(&self, issue: &Issue, now: Timestamp) {
        let Some(secret) = self.secret() else { return };
        assert!(secret.adopted, "a token is asked for that cannot be stored");
        let asked_peer_at = match &self.snapshot.memory.handover {
            Some(Handover::Removed { settled_at, .. }) => Some(*settled_at),
            Some(Handover::Returned { .. } | Handover::Kept { .. }) | None => None,
        };
        let may_peer_be_there = asked_peer_at.is_some_and(|settled_at| now < settled_at);
        let ends_at = secret.peers.map(|token| token.expires_at);
        let is_good = ends_at.is_some_and(|at| elapsed(now, at) > LEAST_LEFT);
        assert!(
            issue.request.is_some() || !may_peer_be_there || !is_good,
            "a good token of the peer's is replaced before it is known that the peer is gone"
        );
    }

    fn basis(&self, issue: Option<&Issue>) -> Basis {
        let (binding, account) = (&self.snapshot.binding, &self.snapshot.identity_account);
        Basis {
            slot: self.slot,
            is_over: self.secret().is_some(),
            meaning: Meaning::written(binding, account.as_deref()),
            inputs: issue.map(|issue| issue.wanted.inputs.clone()),
            is_requested: binding.annotations().contains_key(REFRESH_REQUESTED),
        }
    }

    fn wrote(&mut self, secret: PullSecret) {
        let over = self.secret().map(|before| before.resource_version.clone());
        let memory = &mut self.snapshot.memory;
        memory.outpaced = 0;
        memory.secret = Some(Echo::after(memory.secret.as_ref(), over, secret.clone()));
        self.snapshot.secret = SecretState::Ours(secret);
    }

    fn unless_outpaced(&mut self, refusal: Refusal) -> Option<Problem> {
        let memory = &mut self.snapshot.memory;
        if refusal == Refusal(409) && memory.outpaced < MAX_OUTPACED {
            memory.outpaced += 1;
            memory.secret = None;
            self.is_outpaced = true;
            return None;
        }
        Some(problem(refusal).of_the_secret())
    }
}

impl Written {
    fn secret(self) -> ObjectMeta {
        match self {
            Self::Secret(metadata) => *metadata,
            Self::Account(_) | Self::Binding(_) => panic!("not the answer to this write"),
        }
    }

    pub(crate) fn version(self) -> Option<String> {
        match self {
            Self::Binding(version) => version,
            Self::Account(_) | Self::Secret(_) => panic!("not the answer to this write"),
        }
    }
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
