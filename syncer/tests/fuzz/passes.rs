//! One pass over objects that anybody wrote: it decides without a panic, and what it decides keeps the rules.

use std::sync::Arc;

use hostile::fuzz;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt as _;
use proptest::option;
use proto::Reason;
use syncer::{
    allowed_servers::AllowedServers,
    crd::AcrPullBindingStatus,
    links::Target,
    memory::BindingMemory,
    plan::{Issue, Plan, Snapshot, Step, plan},
    problem::Problem,
    pull_secret::{self, SecretState},
    schedule::FailureRun,
    status::{self, Observation},
    wanted,
};

use crate::objects::{account, binding, now, secret};

fn issue(plan: &Plan) -> Option<&Issue> {
    plan.steps.iter().find_map(|step| match step {
        Step::Issue(issue) => Some(issue.as_ref()),
        Step::Link(_) | Step::Adopt(_) | Step::Release => None,
    })
}

/// Whatever the objects say: a plan touches no foreign Secret, asks only for what parses, and its status settles.
#[test]
fn fuzz_pass_over_any_objects_keeps_the_rules() {
    let input = (
        binding(),
        option::weighted(0.9, secret()),
        option::of(account()),
        option::of(account()),
    );
    fuzz(input, |(binding, secret, target, identity)| {
        let (binding, now) = (Arc::new(binding), now());
        let state = secret.map_or(SecretState::Absent, |mut secret| {
            let whole = pull_secret::judge(&secret, &binding);
            pull_secret::slim(&mut secret);
            assert_eq!(pull_secret::judge(&secret, &binding), whole, "as it is watched");
            whole
        });
        let mut snapshot = Snapshot {
            memory: BindingMemory::new(&binding.uid().unwrap_or_default(), now),
            targets: vec![Target {
                name: binding.spec.service_account_name.clone(),
                account: target.map(Arc::new),
                fight: None,
            }],
            identity_account: identity.map(Arc::new),
            secret: state,
            allowed_servers: AllowedServers::default(),
            reapply_at: None,
            secret_fight: None,
            binding: Arc::clone(&binding),
        };
        let first = plan(&snapshot, now);
        let _pause = first.wake_after(now);
        if snapshot.secret == SecretState::Foreign {
            assert_eq!(
                first.steps,
                [],
                "a foreign Secret is not touched, nor is anything asked for it"
            );
        }
        let (credential, peers) = match &snapshot.secret {
            SecretState::Ours(secret) => (secret.credential.as_ref(), secret.peers.as_ref()),
            SecretState::Absent | SecretState::Foreign => (None, None),
        };
        if let Some(held) = credential {
            // Whatever the annotations say.
            let life = held.expires_at.duration_since(held.refreshed_at);
            assert!((SignedDuration::ZERO..=SignedDuration::from_hours(24)).contains(&life));
            assert!(held.refresh_at <= held.expires_at);
        }
        if let Some(issue) = issue(&first) {
            // What goes to the broker parses there too.
            assert!(issue.wanted.registry.as_str().parse().as_ref() == Ok(&issue.wanted.registry));
            assert_eq!(
                wanted::read(&binding, snapshot.identity_account.as_deref()).as_ref(),
                Ok(&issue.wanted)
            );
            assert!(issue.held.as_ref().is_none_or(|held| Some(held) == credential));
        } else if let (Some(held), None, SecretState::Ours(_)) =
            (credential, &first.problem, &snapshot.secret)
        {
            assert!(held.expires_at > now, "an expired credential is not left alone");
            assert!(first.wake_at.is_some_and(|at| at <= held.expires_at));
        }

        let before = binding.status.clone().unwrap_or_default();
        let seen = Observation {
            generation: binding.metadata.generation,
            secret_name: &pull_secret::name_of(&binding),
            link: &first.link,
            accounts: &binding.spec.accounts(),
            inputs: first.inputs.as_deref(),
            credential,
            peers,
            problem: first.problem.as_ref(),
            attempts: 0,
            degraded: false,
            asked_scope: &binding.spec.acr.scope,
            granted_scope: None,
            trace_id: None,
            now,
        };
        let after = status::next(&before, &seen);
        assert_eq!(status::next(&after, &seen), after, "the status settles");
        let written: AcrPullBindingStatus =
            serde_json::from_value(serde_json::to_value(&after).unwrap()).unwrap();
        assert_eq!(written, after);

        // An attempt that fails is followed by a pause, however odd the times in the Secret are.
        if let Some(issue) = issue(&first) {
            let problem = Problem::new(Reason::RegistryUnauthorized, "no");
            let run = FailureRun::after(None, &issue.wanted.inputs, problem, now, 0.5);
            snapshot.memory.forced_request = issue.request.clone();
            snapshot.memory.failures = Some(run.clone());
            let waiting = plan(&snapshot, now);
            assert_eq!(
                waiting
                    .steps
                    .iter()
                    .filter(|step| matches!(step, Step::Issue(_)))
                    .count(),
                0
            );
            assert!(waiting.wake_at.is_some_and(|at| now < at && at <= run.next_at));
        }
    });
}
