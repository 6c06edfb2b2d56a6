//! A Secret of somebody before that may not be read: it is looked at and taken over, and what is known of it does not
//! outlive a try that failed. And looks that come to nothing.

use super::*;

/// The metadata of a Secret that an earlier binding of the name left, in this version.
fn left(version: &str) -> Value {
    let mut secret = seen(&binding_of(ApiVersion::V1Beta2, "web"), version);
    secret["metadata"]["ownerReferences"][0]["uid"] = json!("uid-of-an-earlier-one");
    secret
}

/// A pass that has looked at it.
async fn looked<'a>(context: &'a Context, binding: &Binding) -> Pass<'a> {
    let mut pass = pass(context, binding);
    pass.snapshot.memory.unread.known = Known::Unknown;
    pass.snapshot.secret = SecretState::Absent;
    let due = plan::plan(&pass.snapshot, now());
    assert!(pass.look(&due).await);
    pass
}

fn adoption(pass: &Pass<'_>) -> PullSecret {
    let steps = plan::plan(&pass.snapshot, now()).steps;
    let secrets = steps.into_iter().find_map(|step| match step {
        Step::Adopt(secret) => Some(secret),
        Step::Link(_) | Step::Release | Step::Issue(_) => None,
    });
    secrets.expect("it is to be taken over")
}

fn is_look(call: &Call) -> bool {
    call.query.contains("dryRun=All")
}

#[tokio::test]
async fn unread_secret_that_was_not_taken_over_because_it_is_another_one_by_then_is_looked_at_again() {
    let binding = binding_of(ApiVersion::V1Beta2, "web");
    for refusal in [
        refused(409, "the object has been modified"),
        refused(404, "not found"),
    ] {
        let (context, _calls) = process(&binding, move |call| {
            if is_look(call) {
                (200, left("9"))
            } else {
                refusal.clone()
            }
        });
        let mut pass = looked(&context, &binding).await;
        for _try in 0..2 * MAX_OUTPACED {
            let secret = adoption(&pass);
            pass.adopt(&secret).await;
            assert_eq!(pass.snapshot.memory.unread.known, Known::Unknown);
            assert_eq!(pass.snapshot.secret, SecretState::Absent);
            let next = plan::plan(&pass.snapshot, now());
            assert!(pass.look(&next).await, "by the next pass");
        }
    }
}

#[tokio::test]
async fn unread_secret_that_could_not_be_taken_over_is_looked_at_before_the_next_try() {
    let binding = binding_of(ApiVersion::V1Beta2, "web");
    let is_refused = Arc::new(AtomicBool::new(false));
    let (refused_by_now, ours) = (Arc::clone(&is_refused), seen(&binding, "10"));
    let (context, calls) = process(&binding, move |call| {
        if !is_look(call) {
            refused_by_now.store(true, Ordering::Relaxed);
            refused(500, "etcdserver: request timed out")
        } else if refused_by_now.load(Ordering::Relaxed) {
            (200, ours.clone())
        } else {
            (200, left("9"))
        }
    });
    let mut first = looked(&context, &binding).await;
    let secret = adoption(&first);
    first.adopt(&secret).await;
    assert!(first.secret_problem.is_some() && !first.is_outpaced);

    // It has taken effect all the same.
    let mut next = pass(&context, &binding);
    next.snapshot.memory = first.snapshot.memory.clone();
    next.snapshot.secret = first.snapshot.secret.clone();
    let due = plan::plan(&next.snapshot, now());
    assert!(next.look(&due).await);
    assert!(next.secret().is_some_and(|secret| secret.adopted));
    let sent = calls.lock().unwrap().iter().map(is_look).collect::<Vec<_>>();
    assert_eq!(sent, [true, false, true]);
}

#[tokio::test]
async fn unread_secret_is_not_written_after_a_look_that_was_throttled_or_failed() {
    let binding = binding_of(ApiVersion::V1Beta2, "web");
    let mut throttled = refused(429, "Too many requests");
    throttled.1["details"]["retryAfterSeconds"] = json!(50);
    for answer in [
        throttled,
        refused(500, "no"),
        refused(503, "no"),
        refused(401, "no"),
    ] {
        let is_throttled = answer.0 == 429;
        let (context, _calls) = process(&binding, move |call| {
            if call.what == SECRET {
                answer.clone()
            } else {
                refused(404, "the binding is gone")
            }
        });
        let mut pass = pass(&context, &binding);
        pass.snapshot.memory.unread.known = Known::Told;
        let due = plan::plan(&pass.snapshot, now());
        assert!(!pass.look(&due).await);
        let problem = pass.secret_problem.as_ref().unwrap();
        assert_eq!(problem.reason, proto::Reason::KubernetesUnreachable);
        let barred = |step: &Step| step.is_barred(false, true);
        assert!(due.steps.iter().all(barred), "{:?}", due.steps);
        let pause = pass.conclude().await.unwrap();
        assert_eq!(
            pause >= std::time::Duration::from_secs(50),
            is_throttled,
            "{pause:?}"
        );
    }
}

#[tokio::test]
async fn unread_secret_that_may_never_be_looked_at_is_written_all_the_same() {
    let binding = binding_of(ApiVersion::V1Beta2, "web");
    for code in [400, 403, 422] {
        let (context, _calls) = process(&binding, move |_call| refused(code, "no"));
        let mut pass = pass(&context, &binding);
        pass.snapshot.memory.unread.known = Known::Told;
        let due = plan::plan(&pass.snapshot, now());
        assert!(!pass.look(&due).await);
        assert_eq!(pass.secret_problem, None, "{code}");
    }
}
