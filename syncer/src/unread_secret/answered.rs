//! What an answer of the broker makes of a Secret that nobody reads: the credential to write, if it is to be written. Pure.

use k8s_openapi::jiff::Timestamp;

use crate::pull_secret::{Credential, PullSecret};

/// The credential to store for an answer of the broker. If it is the one that the Secret should hold already, its times
/// stay: the same write again changes nothing then, neither in the Secret nor in the status.
pub fn settled(known: Option<&PullSecret>, answered: &Credential, now: Timestamp) -> Credential {
    let known = known.and_then(|secret| secret.credential.as_ref());
    let same = known.filter(|known| known.fingerprint == answered.fingerprint);
    same.map_or_else(
        || answered.clone(),
        |known| Credential {
            refreshed_at: known.refreshed_at,
            refresh_at: if now < known.refresh_at {
                known.refresh_at
            } else {
                answered.refresh_at
            },
            ..answered.clone()
        },
    )
}

/// Whether what the Secret should hold is to stay although the broker answered: it is fresh and lasts longer. Several brokers
/// each have a credential of their own, and a write must not go back to an older one. The answer to a request is written
/// whatever it is.
pub fn is_better(
    known: Option<&PullSecret>,
    answered: &Credential,
    request: Option<&str>,
    now: Timestamp,
) -> bool {
    known.is_some_and(|secret| {
        let lasts_longer = |known: &Credential| {
            known.inputs == answered.inputs && known.is_fresh(now) && known.expires_at > answered.expires_at
        };
        let is_answered = request.is_none() || secret.answered_request.as_deref() == request;
        is_answered && secret.credential.as_ref().is_some_and(lasts_longer)
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::ToSpan as _;
    use proto::Fingerprint;

    use super::{super::tests::written, *};
    use crate::samples::now;

    #[test]
    fn unread_secret_that_is_written_again_keeps_its_times_until_they_are_due() {
        let known = written().credential.unwrap();
        let answered = Credential {
            refreshed_at: now(),
            refresh_at: now() + 35.minutes(),
            ..known.clone()
        };
        assert_eq!(settled(Some(&written()), &answered, now()), known);
        let due = settled(Some(&written()), &answered, known.refresh_at);
        assert_eq!(
            (due.refreshed_at, due.refresh_at),
            (known.refreshed_at, answered.refresh_at)
        );
        let new = Credential {
            fingerprint: Fingerprint::of(b"new"),
            ..answered
        };
        assert_eq!(settled(Some(&written()), &new, now()), new);
        assert_eq!(settled(None, &new, now()), new);
    }

    #[test]
    fn unread_secret_is_not_given_a_credential_that_ends_earlier_while_its_own_is_fresh() {
        let known = written();
        let held = known.credential.clone().unwrap();
        let older = Credential {
            fingerprint: Fingerprint::of(b"of another broker"),
            expires_at: held.expires_at - 10.minutes(),
            ..held.clone()
        };
        let stays = |answered: &Credential, request, at| is_better(Some(&known), answered, request, at);
        assert!(stays(&older, None, now()));
        assert!(stays(&older, Some("monday"), now()));
        assert!(!stays(&older, Some("tuesday"), now()), "somebody asked for it");
        assert!(!stays(&older, None, held.refresh_at), "a refresh is due");
        assert!(!is_better(None, &older, None, now()));
        let longer = Credential {
            expires_at: held.expires_at + 10.minutes(),
            ..older.clone()
        };
        assert!(!stays(&longer, None, now()));
        assert!(!stays(&held, None, now()), "the same is written again");
        let for_another_spec = Credential {
            inputs: "other".to_owned(),
            ..older
        };
        assert!(!stays(&for_another_spec, None, now()));
    }
}
