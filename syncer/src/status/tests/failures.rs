//! What the status says of a failure that begins, goes on, ends and comes back.

use super::*;

#[test]
fn status_failure_that_goes_on_is_not_written_again() {
    let problem = refused();
    let first = status(&Observation {
        problem: Some(&problem),
        attempts: 1,
        ..nothing()
    });
    let later = Observation {
        problem: Some(&problem),
        attempts: 2,
        trace_id: Some("another"),
        now: now() + 15.seconds(),
        ..nothing()
    };
    let second = next(&first, &later);
    assert_eq!(second.last_failure, first.last_failure);
    assert!(!is_due(&first, &second, Some(now()), later.now));
    assert!(
        is_due(&first, &second, Some(now()), now() + 10.minutes()),
        "the count is brought up to date at last"
    );
}

#[test]
fn status_failure_after_a_recovery_is_a_new_one() {
    let (problem, held) = (refused(), credential());
    let failed = status(&Observation {
        problem: Some(&problem),
        ..nothing()
    });
    let recovered = next(
        &failed,
        &Observation {
            credential: Some(&held),
            now: now() + 1.minute(),
            ..nothing()
        },
    );
    assert_eq!(
        recovered.last_failure, failed.last_failure,
        "kept for those who ask later"
    );
    assert_eq!(recovered.error, None);
    let again = next(
        &recovered,
        &Observation {
            problem: Some(&problem),
            now: now() + 2.minutes(),
            ..nothing()
        },
    );
    assert_eq!(again.last_failure.unwrap().time, Time(now() + 2.minutes()));
}

#[test]
fn status_failure_keeps_the_ids_of_its_first_attempt() {
    let with_id = |id: &str| Problem {
        azure_request_id: Some(id.to_owned()),
        ..refused()
    };
    let (first, second) = (with_id("first"), with_id("second"));
    let failed = status(&Observation {
        problem: Some(&first),
        ..nothing()
    });
    let again = next(
        &failed,
        &Observation {
            problem: Some(&second),
            trace_id: Some("another"),
            now: now() + 1.minute(),
            ..nothing()
        },
    );
    assert_eq!(again, failed, "so a failure that goes on is no reason to write");
    let told = again.last_failure.unwrap();
    assert_eq!(told.azure_request_id.as_deref(), Some("first"));
    assert_eq!(told.trace_id.as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
}
