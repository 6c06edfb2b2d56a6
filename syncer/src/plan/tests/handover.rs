//! Bindings that Azure/msi-acrpull left, or still works on.

use super::*;
use crate::{
    finalizer::{Handover, PEERS, after_refusal, after_removal, observe},
    pull_secret::PeersToken,
};

/// A binding as the peer leaves it: its finalizer, its link without a record, its Secret with a token of its own.
fn left(api: ApiVersion) -> Snapshot {
    let mut snapshot = settled_with(binding_of(api, "web"));
    let binding = Arc::make_mut(&mut snapshot.binding);
    binding.metadata.finalizers = Some(vec![PEERS.to_owned()]);
    let mut target = account("web");
    links::tests::link(&mut target, &pull_secret::name_of(&snapshot.binding));
    target.annotations_mut().clear();
    snapshot.targets = targets(Some(target));
    let secret = secret(&mut snapshot);
    secret.credential = None;
    secret.peers = Some(PeersToken {
        refreshed_at: now() - 10.minutes(),
        expires_at: now() + 60.minutes(),
    });
    snapshot
}

/// The same after the finalizer was removed, and after it came back.
fn contested() -> Snapshot {
    let mut snapshot = left(ApiVersion::V1Beta2);
    snapshot.memory.handover = Some(after_removal(None, "99".to_owned(), now(), 0.0));
    look(&mut snapshot, now());
    snapshot
}

fn look(snapshot: &mut Snapshot, at: Timestamp) {
    snapshot.memory.handover = observe(snapshot.memory.handover.take(), &snapshot.binding, at, 0.0);
}

fn settled_at(snapshot: &Snapshot) -> Timestamp {
    match snapshot.memory.handover {
        Some(Handover::Removed { settled_at, .. }) => settled_at,
        ref other => panic!("it was not removed: {other:?}"),
    }
}

#[test]
fn plan_binding_that_the_peer_left_is_linked_and_adopted_before_its_finalizer_goes() {
    for api in ApiVersion::ALL {
        let mut snapshot = left(api);
        secret(&mut snapshot).adopted = false;
        let plan = plan(&snapshot, now());
        assert!(
            matches!(
                plan.steps.as_slice(),
                [Step::Link(_), Step::Adopt(_), Step::Release]
            ),
            "{:?}",
            plan.steps
        );
        assert_eq!(plan.problem, None);
        assert!(plan.may_link);
    }
}

#[test]
fn plan_token_of_the_peer_is_replaced_when_the_finalizer_has_stayed_away_and_not_before() {
    for api in ApiVersion::ALL {
        let mut snapshot = left(api);
        let over = snapshot.binding.resource_version().unwrap();
        snapshot.memory.handover = Some(after_removal(None, over, now(), 0.0));
        snapshot.targets = settled_with(binding_of(api, "web")).targets;
        let settled_at = settled_at(&snapshot);
        let waiting = plan(&snapshot, now());
        assert_eq!(
            (waiting.steps, waiting.problem, waiting.wake_at),
            (Vec::new(), None, Some(settled_at))
        );
        let settled = plan(&snapshot, settled_at);
        assert!(
            matches!(settled.steps.as_slice(), [Step::Issue(_)]),
            "{:?}",
            settled.steps
        );
        assert_eq!(
            issue(&settled).held,
            None,
            "nobody knows all that it was issued for"
        );
    }
}

#[test]
fn plan_binding_that_the_peer_left_without_a_good_token_asks_at_once() {
    let ended = |snapshot: &mut Snapshot| {
        secret(snapshot).peers = Some(PeersToken {
            refreshed_at: now() - 60.minutes(),
            expires_at: now() + 5.minutes(),
        });
    };
    let none = |snapshot: &mut Snapshot| secret(snapshot).peers = None;
    let absent = |snapshot: &mut Snapshot| snapshot.secret = SecretState::Absent;
    let requested = |snapshot: &mut Snapshot| request_refresh(snapshot, "now");
    let cases: [&dyn Fn(&mut Snapshot); 4] = [&ended, &none, &absent, &requested];
    for change in cases {
        let mut snapshot = left(ApiVersion::V1Beta2);
        change(&mut snapshot);
        let plan = plan(&snapshot, now());
        assert!(
            matches!(
                plan.steps.as_slice(),
                [Step::Link(_), Step::Release, Step::Issue(_)]
            ),
            "{:?}",
            plan.steps
        );
    }
}

#[test]
fn plan_binding_with_a_bad_spec_loses_the_peers_finalizer_all_the_same() {
    let mut snapshot = left(ApiVersion::V1Beta2);
    Arc::make_mut(&mut snapshot.binding).spec.acr.server = "https://nowhere".to_owned();
    let plan = plan(&snapshot, now());
    assert_eq!(plan.steps, [Step::Link("web".to_owned()), Step::Release]);
    assert_eq!(plan.problem.unwrap().reason, Reason::InvalidSpec);
    assert_eq!(
        plan.wake_at,
        Some(now() + 60.minutes()),
        "the status says it when the token ends"
    );
}

#[test]
fn plan_binding_that_gets_no_token_of_ours_wakes_when_that_of_the_peer_ends() {
    let mut snapshot = left(ApiVersion::V1Beta2);
    Arc::make_mut(&mut snapshot.binding).metadata.finalizers = None;
    let ends_at = now() + 5.seconds();
    secret(&mut snapshot).peers.as_mut().unwrap().expires_at = ends_at;
    fail(&mut snapshot, Reason::RegistryUnauthorized);
    assert_eq!(plan(&snapshot, now()).wake_at, Some(ends_at));
}

#[test]
fn plan_finalizer_that_kubernetes_keeps_costs_no_token_while_that_of_the_peer_is_good() {
    let mut snapshot = left(ApiVersion::V1Beta2);
    snapshot.memory.handover = Some(after_refusal(None, &snapshot.binding, now(), 0.0));
    let plan = plan(&snapshot, now());
    assert_eq!(plan.steps, [Step::Link("web".to_owned())]);
    assert_eq!(plan.problem, None);
    assert_eq!(plan.wake_at, Some(now() + 5.minutes()));
}

#[test]
fn plan_contested_binding_writes_nothing_whatever_the_secret_is() {
    let edited = |snapshot: &mut Snapshot| secret(snapshot).peers = None;
    let deleted = |snapshot: &mut Snapshot| snapshot.secret = SecretState::Absent;
    let unlinked = |snapshot: &mut Snapshot| snapshot.targets = targets(Some(account("web")));
    let nothing = |_snapshot: &mut Snapshot| {};
    let cases: [&dyn Fn(&mut Snapshot); 4] = [&nothing, &edited, &deleted, &unlinked];
    for change in cases {
        let mut snapshot = contested();
        change(&mut snapshot);
        let plan = plan(&snapshot, now());
        assert_eq!(plan.steps, []);
        assert!(!plan.may_link, "nor is it linked along with others");
        assert_eq!(plan.problem.unwrap().reason, Reason::DuplicateController);
        assert_eq!(plan.wake_at, Some(now() + 5.minutes()));
    }
}

#[test]
fn plan_contested_binding_says_when_its_token_ends() {
    let mut snapshot = contested();
    secret(&mut snapshot).peers = Some(PeersToken {
        refreshed_at: now() - 60.minutes(),
        expires_at: now() + 1.minutes(),
    });
    assert_eq!(plan(&snapshot, now()).wake_at, Some(now() + 1.minutes()));
}

#[test]
fn plan_contested_binding_asks_again_after_a_while_and_at_once_when_somebody_wants_something() {
    let mut requested = contested();
    request_refresh(&mut requested, "now");
    let mut foreign = contested();
    foreign.memory.unread.is_foreign = true;
    let later = now() + 5.minutes();
    for (snapshot, at) in [(contested(), later), (requested, now()), (foreign, later)] {
        let plan = plan(&snapshot, at);
        assert_eq!(plan.steps, [Step::Release], "the finalizer alone asks");
        assert_eq!(
            plan.problem.unwrap().reason,
            Reason::DuplicateController,
            "nothing is over yet"
        );
    }
}

#[test]
fn plan_binding_that_was_contested_goes_on_when_the_finalizer_stays_away() {
    let mut snapshot = contested();
    let later = now() + 5.minutes();
    let known = snapshot.memory.handover.take();
    snapshot.memory.handover = Some(after_removal(known.as_ref(), "100".to_owned(), later, 0.0));
    let waiting = plan(&snapshot, later);
    assert_eq!(waiting.steps, []);
    assert_eq!(waiting.problem.unwrap().reason, Reason::DuplicateController);

    Arc::make_mut(&mut snapshot.binding).metadata.finalizers = None;
    look(&mut snapshot, later);
    let settled = plan(&snapshot, settled_at(&snapshot));
    assert!(
        matches!(settled.steps.as_slice(), [Step::Link(_), Step::Issue(_)]),
        "{:?}",
        settled.steps
    );
    assert_eq!(settled.problem, None);
}

#[test]
fn plan_binding_with_a_foreign_secret_keeps_the_peers_finalizer() {
    let mut snapshot = left(ApiVersion::V1Beta2);
    snapshot.secret = SecretState::Foreign;
    assert_eq!(plan(&snapshot, now()).steps, []);
}

#[test]
fn plan_finalizer_that_kubernetes_kept_is_tried_again_whatever_the_spec_is() {
    for server in ["prod.azurecr.io", "https://nowhere"] {
        let mut snapshot = settled();
        let binding = Arc::make_mut(&mut snapshot.binding);
        binding.metadata.finalizers = Some(vec![PEERS.to_owned()]);
        binding.spec.acr.server = server.to_owned();
        let kept = after_refusal(None, binding, now(), 0.0);
        let Handover::Kept { next_at, .. } = kept else {
            panic!("it is {kept:?}")
        };
        snapshot.memory.handover = Some(kept);
        assert_eq!(plan(&snapshot, now()).wake_at, Some(next_at));
    }
}
