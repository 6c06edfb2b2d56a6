//! A token that Azure/msi-acrpull wrote.

use super::*;

#[test]
fn status_token_of_the_peer_makes_a_binding_ready_as_long_as_it_lasts() {
    let token = PeersToken {
        refreshed_at: now() - 10.minutes(),
        expires_at: now() + 60.minutes(),
    };
    let duplicate = crate::finalizer::duplicate();
    let seen = Observation {
        peers: Some(&token),
        problem: Some(&duplicate),
        ..nothing()
    };
    let valid = status(&seen);
    assert_eq!(verdict(&valid, "Ready"), ("True", "CredentialCurrent"));
    assert_eq!(
        verdict(&valid, "RefreshDegraded"),
        ("True", "DuplicateController")
    );
    assert_eq!(valid.token_expiration_time, Some(Time(token.expires_at)));
    assert_eq!(valid.next_refresh_time, None, "nobody here renews it");
    assert_eq!(valid.error, None, "a peer that runs would write the status anew");
    let later = Observation {
        now: now() + 5.minutes(),
        ..seen.clone()
    };
    assert_eq!(next(&valid, &later), valid, "it is the same failure");
    let told = notices::told(&AcrPullBindingStatus::default(), &valid);
    assert!(
        told.iter()
            .any(|notice| notice.warning && notice.reason == "DuplicateController"),
        "{told:?}"
    );
    assert_eq!(notices::told(&valid, &next(&valid, &seen)), [], "it is told once");
    let expired = next(
        &valid,
        &Observation {
            now: token.expires_at,
            ..seen
        },
    );
    assert_eq!(verdict(&expired, "Ready"), ("False", "DuplicateController"));
}
