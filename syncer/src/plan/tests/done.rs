//! A plan comes to an end.

use proptest::prelude::*;

use super::*;

proptest! {
    /// Whatever a snapshot looks like: once the steps have succeeded, nothing is left to do.
    #[test]
    fn plan_is_done_after_its_steps(
        linked: bool, adopted: bool, held: bool, due in -40_i64..40, failed: bool, requested: bool, foreign: bool,
        peers: bool, api in prop::sample::select(&ApiVersion::ALL[..])
    ) {
        let settled = || settled_with(binding_of(api, "web"));
        let finalizers = peers.then(|| vec![finalizer::PEERS.to_owned()]);
        let mut snapshot = settled();
        Arc::make_mut(&mut snapshot.binding).metadata.finalizers = finalizers;
        if !linked {
            snapshot.targets = targets(Some(account("web")));
        }
        secret(&mut snapshot).adopted = adopted;
        let credential = secret(&mut snapshot).credential.clone().unwrap();
        secret(&mut snapshot).credential =
            held.then(|| Credential { refresh_at: now() + SignedDuration::from_mins(due), ..credential.clone() });
        if failed {
            fail(&mut snapshot, Reason::PolicyDenied);
        }
        if requested {
            request_refresh(&mut snapshot, "now");
        }
        if foreign {
            snapshot.secret = SecretState::Foreign;
        }
        for step in plan(&snapshot, now()).steps {
            match step {
                Step::Link(_) => snapshot.targets = settled().targets,
                Step::Adopt(_) => secret(&mut snapshot).adopted = true,
                Step::Release => {
                    let over = snapshot.binding.resource_version().unwrap();
                    snapshot.memory.handover = Some(finalizer::after_removal(None, over, now(), 0.0));
                }
                Step::Issue(issue) => {
                    secret(&mut snapshot).credential = Some(Credential {
                        inputs: issue.wanted.inputs.clone(),
                        ..credential.clone()
                    });
                    secret(&mut snapshot).answered_request = issue.request;
                    snapshot.memory.failures = None;
                }
            }
        }
        prop_assert_eq!(plan(&snapshot, now()).steps, []);
    }
}

#[test]
fn step_after_one_that_failed_is_done_only_if_it_does_not_need_it() {
    let mut snapshot = settled();
    secret(&mut snapshot).credential = None;
    let issue = plan(&snapshot, now()).steps.remove(0);
    for (step, without_link, without_secret) in [
        (Step::Link("web".to_owned()), false, false),
        // Somebody who was faster at the Secret may be the peer.
        (Step::Release, true, true),
        (issue, false, true),
    ] {
        assert_eq!(step.is_barred(true, false), without_link, "{step:?}");
        assert_eq!(step.is_barred(false, true), without_secret, "{step:?}");
        assert!(!step.is_barred(false, false), "{step:?}");
    }
}
