use k8s_openapi::jiff::{SignedDuration, ToSpan as _};
use proto::Fingerprint;

use super::*;
use crate::{
    binding::ApiVersion,
    memory::BindingMemory,
    samples::{
        account, annotated_account, binding, binding_of, managed_identity_spec, now, older_binding,
        older_spec, workload_identity_spec,
    },
    schedule::FailureRun,
};

mod contested;
mod done;
mod handover;
mod outdated;
mod unread;

/// A binding for which everything is as it should be, in the middle of its credential's life.
fn settled() -> Snapshot {
    settled_with(binding("web", workload_identity_spec()))
}

fn targets(account: Option<ServiceAccount>) -> Vec<Target> {
    vec![Target {
        name: "web".to_owned(),
        account: account.map(Arc::new),
        fight: None,
    }]
}

/// The same for this binding.
fn settled_with(binding: Binding) -> Snapshot {
    let binding = Arc::new(binding);
    let identity_account = Arc::new(annotated_account("puller"));
    let inputs = wanted::read(&binding, Some(&identity_account)).unwrap().inputs;
    let mut target = account("web");
    links::tests::link(&mut target, &pull_secret::name_of(&binding));
    Snapshot {
        memory: BindingMemory::new("uid-of-web", now()),
        allowed_servers: AllowedServers::default(),
        reapply_at: None,
        secret_fight: None,
        binding,
        targets: targets(Some(target)),
        identity_account: Some(identity_account),
        secret: SecretState::Ours(PullSecret {
            uid: "uid-of-secret".to_owned(),
            resource_version: "7".to_owned(),
            adopted: true,
            peers: None,
            credential: Some(Credential {
                inputs,
                fingerprint: Fingerprint::of(b"payload"),
                refreshed_at: now() - 10.minutes(),
                expires_at: now() + 60.minutes(),
                refresh_at: now() + 30.minutes(),
            }),
            answered_request: None,
        }),
    }
}

fn secret(snapshot: &mut Snapshot) -> &mut PullSecret {
    let SecretState::Ours(secret) = &mut snapshot.secret else {
        panic!("no Secret of ours")
    };
    secret
}

fn request_refresh(snapshot: &mut Snapshot, value: &str) {
    let mut binding = Binding::clone(&snapshot.binding);
    binding
        .annotations_mut()
        .insert(REFRESH_REQUESTED.to_owned(), value.to_owned());
    snapshot.binding = Arc::new(binding);
}

fn fail(snapshot: &mut Snapshot, reason: Reason) -> FailureRun {
    let inputs = plan(snapshot, now()).inputs.unwrap();
    let run = FailureRun::after(None, &inputs, Problem::new(reason, "no"), now(), 0.0);
    snapshot.memory.failures = Some(run.clone());
    run
}

fn issue(plan: &Plan) -> &Issue {
    match plan.steps.last() {
        Some(Step::Issue(issue)) => issue,
        other => panic!("the last step is {other:?}"),
    }
}

#[test]
fn plan_settled_binding_does_nothing_until_the_refresh() {
    for snapshot in [settled()]
        .into_iter()
        .chain(ApiVersion::ALL.map(|api| settled_with(binding_of(api, "web"))))
    {
        let plan = plan(&snapshot, now());
        assert_eq!(plan.steps, []);
        assert_eq!(plan.link, Link::Present);
        assert_eq!(plan.problem, None);
        assert_eq!(plan.wake_at, Some(now() + 30.minutes()));
    }
}

#[test]
fn b14_plan_never_sleeps_past_the_end_of_the_credential() {
    let mut snapshot = settled();
    let credential = secret(&mut snapshot).credential.as_mut().unwrap();
    credential.refresh_at = now() + 90.minutes();
    assert_eq!(plan(&snapshot, now()).wake_at, Some(now() + 60.minutes()));
}

#[test]
fn b15_plan_new_binding_links_before_it_asks() {
    for api in ApiVersion::ALL {
        let mut snapshot = settled_with(binding_of(api, "web"));
        snapshot.secret = SecretState::Absent;
        snapshot.targets = targets(Some(account("web")));
        let plan = plan(&snapshot, now());
        assert!(
            matches!(plan.steps.as_slice(), [Step::Link(_), Step::Issue(_)]),
            "{:?}",
            plan.steps
        );
        assert_eq!(issue(&plan).held, None);
        assert!(!issue(&plan).force);
    }
}

#[test]
fn b5_plan_link_of_the_other_apis_secret_is_not_its_own() {
    let mut snapshot = settled_with(binding_of(ApiVersion::V1Beta1, "web"));
    snapshot.targets = settled().targets;
    assert_eq!(plan(&snapshot, now()).steps, [Step::Link("web".to_owned())]);
}

#[test]
fn plan_older_binding_without_a_scope_or_with_another_one_asks_anew() {
    for scope in [None, Some("repository:team/other:pull".to_owned())] {
        let mut snapshot = settled_with(binding_of(ApiVersion::V1Beta1, "web"));
        let mut spec = older_spec();
        spec.scope.clone_from(&scope);
        snapshot.binding = Arc::new(older_binding("web", spec));
        let plan = plan(&snapshot, now());
        assert_eq!(issue(&plan).held, None);
        assert_eq!(issue(&plan).wanted.scopes.is_empty(), scope.is_none());
    }
}

#[test]
fn plan_without_target_account_still_refreshes() {
    let mut snapshot = settled();
    snapshot.targets = targets(None);
    snapshot.secret = SecretState::Absent;
    let plan = plan(&snapshot, now());
    assert_eq!(plan.link, Link::NoAccount(vec!["web".to_owned()]));
    assert!(matches!(plan.steps.as_slice(), [Step::Issue(_)]));
}

#[test]
fn plan_without_identity_account_links_and_waits_for_it() {
    let mut snapshot = settled();
    snapshot.identity_account = None;
    snapshot.targets = targets(Some(account("web")));
    let plan = plan(&snapshot, now());
    assert_eq!(plan.steps, [Step::Link("web".to_owned())]);
    assert_eq!(plan.problem.unwrap().reason, Reason::ServiceAccountNotFound);
}

#[test]
fn plan_credential_past_its_refresh_is_offered_to_the_broker() {
    let snapshot = settled();
    let plan = plan(&snapshot, now() + 31.minutes());
    assert!(matches!(plan.steps.as_slice(), [Step::Issue(_)]));
    assert!(issue(&plan).held.is_some());
}

#[test]
fn plan_changed_inputs_ask_for_a_new_credential() {
    let mut snapshot = settled();
    let mut spec = workload_identity_spec();
    spec.acr.scope = "repository:team/other:pull".to_owned();
    snapshot.binding = Arc::new(binding("web", spec));
    assert_eq!(issue(&plan(&snapshot, now())).held, None);
}

#[test]
fn plan_secret_with_another_payload_is_written_again() {
    let mut snapshot = settled();
    secret(&mut snapshot).credential = None;
    assert_eq!(issue(&plan(&snapshot, now())).held, None);
}

#[test]
fn plan_secret_of_an_earlier_binding_is_adopted_and_not_fetched() {
    let mut snapshot = settled();
    secret(&mut snapshot).adopted = false;
    assert!(matches!(
        plan(&snapshot, now()).steps.as_slice(),
        [Step::Adopt(_)]
    ));
}

#[test]
fn b6_plan_foreign_secret_stops_everything() {
    let mut snapshot = settled();
    snapshot.secret = SecretState::Foreign;
    snapshot.targets = targets(Some(account("web")));
    let plan = plan(&snapshot, now());
    assert_eq!(plan.steps, []);
    assert_eq!(plan.link, Link::Withheld);
    assert_eq!(plan.problem.unwrap().reason, Reason::SecretConflict);
}

#[test]
fn plan_failed_attempt_waits_for_its_time() {
    let mut snapshot = settled();
    snapshot.secret = SecretState::Absent;
    let run = fail(&mut snapshot, Reason::RegistryUnauthorized);
    let waiting = plan(&snapshot, now());
    assert_eq!(waiting.steps, []);
    assert_eq!(waiting.wake_at, Some(run.next_at));
    assert_eq!(waiting.problem, Some(run.problem));
    assert!(matches!(
        plan(&snapshot, run.next_at).steps.as_slice(),
        [Step::Issue(_)]
    ));
}

#[test]
fn plan_failed_attempt_wakes_when_the_credential_expires() {
    let mut snapshot = settled();
    let expires_at = now() + 5.seconds();
    let credential = secret(&mut snapshot).credential.as_mut().unwrap();
    credential.refresh_at = now();
    credential.expires_at = expires_at;
    fail(&mut snapshot, Reason::RegistryUnauthorized);
    assert_eq!(plan(&snapshot, now()).wake_at, Some(expires_at));
}

#[test]
fn plan_changed_inputs_end_the_wait() {
    let mut snapshot = settled();
    snapshot.secret = SecretState::Absent;
    fail(&mut snapshot, Reason::TenantNotFound);
    snapshot.binding = Arc::new(binding("web", managed_identity_spec()));
    assert!(matches!(
        plan(&snapshot, now()).steps.as_slice(),
        [Step::Issue(_)]
    ));
}

#[test]
fn plan_refresh_request_is_forced_once_and_ends_the_wait() {
    let mut snapshot = settled();
    fail(&mut snapshot, Reason::TenantNotFound);
    request_refresh(&mut snapshot, "one");
    let requested = plan(&snapshot, now());
    assert!(issue(&requested).force);
    assert_eq!(issue(&requested).request.as_deref(), Some("one"));

    snapshot.memory.forced_request = Some("one".to_owned());
    assert_eq!(
        plan(&snapshot, now()).steps,
        [],
        "failed by force: back to the schedule"
    );

    secret(&mut snapshot).answered_request = Some("one".to_owned());
    snapshot.memory.failures = None;
    assert_eq!(plan(&snapshot, now()).steps, [], "answered");
}

#[test]
fn b8_registry_that_is_not_allowed_is_refused_before_anything_is_minted_or_sent() {
    let mut snapshot = settled();
    snapshot.allowed_servers = "azurecr.us".parse().unwrap();
    snapshot.secret = SecretState::Absent;
    let refused = plan(&snapshot, now());
    assert_eq!(refused.steps, []);
    assert_eq!(refused.wake_at, None, "only a change of the binding helps");
    assert_eq!(refused.problem.unwrap().reason, Reason::RegistryNotAllowed);
    snapshot.allowed_servers = "azurecr.us,azurecr.io".parse().unwrap();
    assert!(matches!(plan(&snapshot, now()).steps[..], [Step::Issue(_)]));
}

#[test]
fn plan_spec_that_does_not_parse_is_not_sent() {
    let mut snapshot = settled();
    let mut spec = managed_identity_spec();
    spec.acr.server = "10.0.0.1".to_owned();
    snapshot.binding = Arc::new(binding("web", spec));
    let plan = plan(&snapshot, now());
    assert_eq!(plan.steps, []);
    assert_eq!(plan.problem.unwrap().reason, Reason::InvalidSpec);
}

#[test]
fn plan_conflict_ends_with_the_secret_that_was_in_the_way_and_other_failures_do_not() {
    for (reason, is_over) in [(Reason::SecretConflict, true), (Reason::PolicyDenied, false)] {
        let mut snapshot = settled();
        // It is ours, and marked immutable.
        secret(&mut snapshot).credential = None;
        let run = fail(&mut snapshot, reason);
        let waiting = plan(&snapshot, now());
        assert_eq!((waiting.steps.len(), waiting.wake_at), (0, Some(run.next_at)));

        snapshot.secret = SecretState::Absent;
        let freed = plan(&snapshot, now());
        assert_eq!(freed.steps.len(), usize::from(is_over), "{reason:?}");
        assert_eq!(freed.problem.is_none(), is_over, "{reason:?}");
        // Where it may not be read nobody knows that it is gone.
        snapshot.reapply_at = Some(now() + 5.minutes());
        assert_eq!(plan(&snapshot, now()).steps, []);
    }
}
