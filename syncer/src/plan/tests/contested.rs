//! A Secret that somebody keeps overwriting.

use super::*;

/// A settled binding whose Secret this process had to write again and again until now.
fn fought_over() -> Snapshot {
    let mut snapshot = settled();
    let inputs = plan(&snapshot, now()).inputs;
    snapshot.memory.stored_inputs = inputs;
    snapshot.secret_fight = Some(Fight {
        next_at: now() + 1.minute(),
        over_at: now() + 10.minutes(),
    });
    snapshot
}

fn overwritten() -> Snapshot {
    let mut snapshot = fought_over();
    secret(&mut snapshot).credential = None;
    snapshot
}

#[test]
fn plan_contested_secret_is_restored_after_a_pause() {
    let mut deleted = fought_over();
    deleted.secret = SecretState::Absent;
    let mut relabelled = fought_over();
    secret(&mut relabelled).adopted = false;
    for snapshot in [overwritten(), deleted, relabelled] {
        let waiting = plan(&snapshot, now());
        assert_eq!(waiting.steps, []);
        assert_eq!(waiting.problem.unwrap().reason, Reason::Contested);
        assert_eq!(waiting.wake_at, Some(now() + 1.minute()));
        let due = plan(&snapshot, now() + 1.minute());
        assert_eq!(due.steps.len(), 1);
        assert_eq!(due.problem.unwrap().reason, Reason::Contested);
    }
}

#[test]
fn plan_contested_secret_that_holds_is_at_peace_after_ten_minutes() {
    let snapshot = fought_over();
    let holding = plan(&snapshot, now());
    assert_eq!(holding.steps, []);
    assert_eq!(holding.problem.unwrap().reason, Reason::Contested);
    assert_eq!(holding.wake_at, Some(now() + 10.minutes()));
    let at_peace = plan(&snapshot, now() + 10.minutes());
    assert_eq!(at_peace.problem, None);
    assert_eq!(at_peace.wake_at, Some(now() + 30.minutes()));
}

#[test]
fn plan_contested_secret_is_refreshed_and_replaced_when_that_is_due() {
    let mut refresh = fought_over();
    secret(&mut refresh).credential.as_mut().unwrap().refresh_at = now();
    let mut requested = overwritten();
    request_refresh(&mut requested, "now");
    let mut changed = overwritten();
    changed.binding = Arc::new(binding("web", managed_identity_spec()));
    for snapshot in [refresh, requested, changed] {
        assert!(matches!(
            plan(&snapshot, now()).steps.as_slice(),
            [Step::Issue(_)]
        ));
    }
}

#[test]
fn plan_contested_secret_does_not_hold_back_links() {
    let mut snapshot = overwritten();
    snapshot.targets = targets(Some(account("web")));
    assert_eq!(plan(&snapshot, now()).steps, [Step::Link("web".to_owned())]);
}

#[test]
fn plan_several_accounts_are_linked_before_it_asks() {
    let mut snapshot = settled();
    snapshot.secret = SecretState::Absent;
    snapshot.targets = ["web", "batch", "late"]
        .map(|name| Target {
            name: name.to_owned(),
            account: (name != "late").then(|| Arc::new(account(name))),
            fight: None,
        })
        .into();
    let plan = plan(&snapshot, now());
    assert_eq!(plan.link, Link::NoAccount(vec!["late".to_owned()]));
    assert!(
        matches!(plan.steps.as_slice(), [Step::Link(first), Step::Link(second), Step::Issue(_)]
            if first == "web" && second == "batch"),
        "{:?}",
        plan.steps
    );
}
