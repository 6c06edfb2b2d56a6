//! A token for less than was asked for.

use super::*;

#[test]
fn b20_status_of_a_token_for_less_than_was_asked_for_says_what_is_missing_and_warns_once() {
    let held = credential();
    let seen = Observation {
        credential: Some(&held),
        asked_scope: "repository:a:pull repository:b:pull",
        granted_scope: Some("repository:a:pull"),
        ..nothing()
    };
    let before = status(&Observation {
        credential: None,
        ..seen.clone()
    });
    let partly = next(&before, &seen);
    // What was granted can be pulled.
    assert_eq!(verdict(&partly, "Ready"), ("True", "PartlyGranted"));
    assert_eq!(verdict(&partly, "CredentialIssued"), ("True", "PartlyGranted"));
    let ready = partly
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    assert_eq!(
        ready.map(|ready| ready.message.as_str()),
        Some("the registry did not grant repository:b:pull")
    );
    let warnings = |before, after| {
        let notices = notices::told(before, after);
        notices.into_iter().filter(|notice| notice.warning).count()
    };
    assert_eq!(warnings(&before, &partly), 1);

    // A process that has just started knows it from the status.
    let again = next(
        &partly,
        &Observation {
            granted_scope: None,
            ..seen.clone()
        },
    );
    assert_eq!(again, partly);
    assert_eq!(warnings(&partly, &again), 0);
    let whole = next(
        &partly,
        &Observation {
            granted_scope: Some("repository:a:pull repository:b:pull"),
            ..seen
        },
    );
    assert_eq!(verdict(&whole, "Ready"), ("True", "CredentialCurrent"));
}
