//! Where the Secret may not be read.

use super::*;

/// [`settled`], and the Secret is to be written again in five minutes.
fn unread() -> Snapshot {
    Snapshot {
        reapply_at: Some(now() + 5.minutes()),
        ..settled()
    }
}

#[test]
fn unread_secret_is_left_alone_until_it_is_to_be_written_again() {
    let waiting = plan(&unread(), now());
    assert_eq!(waiting.steps, []);
    assert_eq!(waiting.wake_at, Some(now() + 5.minutes()));

    let due = plan(&unread(), now() + 5.minutes());
    assert_eq!(
        issue(&due).held,
        None,
        "the Secret may be gone: the payload is needed"
    );
    assert_eq!(due.problem, None);

    let late = Snapshot {
        reapply_at: Some(now() + 50.minutes()),
        ..settled()
    };
    assert_eq!(
        plan(&late, now()).wake_at,
        Some(now() + 30.minutes()),
        "the refresh comes first"
    );
}

#[test]
fn unread_secret_whose_next_write_failed_is_as_good_as_it_was() {
    let mut snapshot = unread();
    fail(&mut snapshot, Reason::KubernetesUnreachable);
    let plan = plan(&snapshot, now());
    assert_eq!(plan.steps, []);
    assert_eq!(plan.problem, None, "a token that is not due is no problem");
}

#[test]
fn unread_secret_past_its_refresh_is_asked_for_whole() {
    let due = plan(&unread(), now() + 31.minutes());
    assert_eq!(issue(&due).held, None);
}

#[test]
fn unread_secret_that_is_written_again_is_no_repair() {
    let mut snapshot = unread();
    snapshot.memory.stored_inputs = plan(&snapshot, now()).inputs;
    // Of before, when Secrets might be read.
    snapshot.secret_fight = Some(Fight {
        next_at: now() + 50.minutes(),
        over_at: now() + 60.minutes(),
    });
    let refresh = plan(&snapshot, now() + 31.minutes());
    assert!(
        !issue(&refresh).restores(&snapshot),
        "a refresh counts for no fight and waits for none"
    );
    let watched = Snapshot {
        reapply_at: None,
        ..snapshot
    };
    assert!(issue(&refresh).restores(&watched));
}

#[test]
fn b6_unread_secret_that_was_somebody_elses_is_linked_only_after_a_write() {
    let mut snapshot = unread();
    snapshot.targets = targets(Some(account("web")));
    snapshot.secret = SecretState::Absent;
    let first = plan(&snapshot, now());
    assert!(matches!(first.steps.as_slice(), [Step::Link(_), Step::Issue(_)]));
    assert!(first.may_link);

    snapshot.memory.unread.is_foreign = true;
    let binding = Arc::make_mut(&mut snapshot.binding);
    binding.metadata.finalizers = Some(vec![finalizer::PEERS.to_owned()]);
    let again = plan(&snapshot, now());
    assert!(
        matches!(again.steps.as_slice(), [Step::Issue(_)]),
        "{:?}",
        again.steps
    );
    assert_eq!((again.link, again.may_link), (Link::Withheld, false));
}
