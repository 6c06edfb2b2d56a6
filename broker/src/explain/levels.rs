//! What is cached for a permitted request, and how that lets it end. Shows times and reasons, no token. Pure.

use proto::{time::to_timestamp, v1};
use runtime::Moment;

use crate::{cache::KeyState, credentials::ChainState};

/// How a permitted request would end, told from the last level to the first: a token there is all that is needed.
pub(super) fn outlook(levels: &[v1::CacheLevel]) -> (v1::Verdict, String, String) {
    for (position, level) in levels.iter().rev().enumerate() {
        match (level.state(), position) {
            (v1::CacheState::Fresh | v1::CacheState::Due | v1::CacheState::Degraded, 0) => {
                return (
                    v1::Verdict::Passed,
                    String::new(),
                    "a credential is cached".to_owned(),
                );
            }
            (v1::CacheState::Fresh | v1::CacheState::Due | v1::CacheState::Degraded, _) => {
                let text = format!(
                    "permitted; the token {} is cached, the rest is asked of Azure",
                    level.name
                );
                return (v1::Verdict::Passed, String::new(), text);
            }
            (v1::CacheState::Failing, _) => {
                let text = format!(
                    "permitted, and Azure issued no token {} when it was last asked: {}",
                    level.name, level.failure_detail
                );
                return (v1::Verdict::Failing, level.failure_reason.clone(), text);
            }
            (v1::CacheState::Absent | v1::CacheState::Unspecified, _) => {}
        }
    }
    let text = "permitted; nothing is cached on this replica, and Azure decides when it is asked";
    (v1::Verdict::Passed, String::new(), text.to_owned())
}

/// The levels, in the order in which tokens are made of each other.
pub(super) fn of(chain: &ChainState) -> Vec<v1::CacheLevel> {
    let ChainState {
        identity,
        entra,
        refresh,
        access,
        at,
    } = chain;
    let named = [
        ("identity", identity.as_ref()),
        ("entra", Some(entra)),
        ("acr_refresh", Some(refresh)),
        ("acr_access", access.as_ref()),
    ];
    named
        .into_iter()
        .filter_map(|(name, key)| key.map(|key| level(name, key, *at)))
        .collect()
}

fn level(name: &str, key: &KeyState, now: Moment) -> v1::CacheLevel {
    let KeyState { token, failure } = key;
    // A failure counts for as long as Azure is not asked again because of it; then it is history.
    let retry_at = failure
        .as_ref()
        .map(|(_error, retry_at)| *retry_at)
        .filter(|retry_at| *retry_at > now.wall);
    let state = match (token, retry_at) {
        (Some(token), _) if !token.is_due(now) => v1::CacheState::Fresh,
        (Some(_), None) => v1::CacheState::Due,
        (Some(_), Some(_)) => v1::CacheState::Degraded,
        (None, Some(_)) => v1::CacheState::Failing,
        (None, None) => v1::CacheState::Absent,
    };
    let mut level = v1::CacheLevel {
        name: name.to_owned(),
        state: state.into(),
        ..v1::CacheLevel::default()
    };
    if let Some(token) = token {
        level.expire_time = Some(to_timestamp(token.expires_at()));
        level.refresh_time = Some(to_timestamp(token.refresh_at(now)));
    }
    level.retry_time = retry_at.map(to_timestamp);
    if let Some((error, _retry_at)) = failure {
        error.reason.as_wire().clone_into(&mut level.failure_reason);
        level.failure_detail = error.message.to_string();
        level.azure_request_id = error.azure_request_id.clone().unwrap_or_default();
        level.help_url = error.reason.help_url();
    }
    level
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proto::Reason;

    use super::*;
    use crate::{error::CredentialError, expiry::Lifetime};

    /// Seconds after the start of the process.
    fn at(seconds: u64) -> Moment {
        Moment {
            wall: UNIX_EPOCH + Duration::from_secs(1_795_000_000 + seconds),
            monotonic: Duration::from_secs(seconds),
        }
    }

    /// What is known after 10,000 s of a token of 2,000 s.
    fn key(token_age: Option<u64>, failure: Option<Reason>) -> KeyState {
        KeyState {
            token: token_age.map(|age| {
                let received = at(10_000 - age);
                Lifetime::new(received, received.wall + Duration::from_secs(2000), 0.0)
            }),
            failure: failure.map(|reason| (CredentialError::titled(reason), at(10_015).wall)),
        }
    }

    fn states(entra: KeyState, refresh: KeyState, access: Option<KeyState>) -> Vec<v1::CacheLevel> {
        of(&ChainState {
            identity: None,
            entra,
            refresh,
            access,
            at: at(10_000),
        })
    }

    #[test]
    fn level_is_told_by_its_token_and_its_failure() {
        let failed = Some(Reason::RegistryUnauthorized);
        for (token_age, failure, state) in [
            (None, None, v1::CacheState::Absent),
            (None, failed, v1::CacheState::Failing),
            (Some(10), None, v1::CacheState::Fresh),
            (Some(10), failed, v1::CacheState::Fresh),
            (Some(1100), None, v1::CacheState::Due),
            (Some(1100), failed, v1::CacheState::Degraded),
        ] {
            let levels = states(key(token_age, failure), key(None, None), None);
            assert_eq!(levels[0].state(), state, "{token_age:?} {failure:?}");
            assert_eq!(levels[0].expire_time.is_some(), token_age.is_some());
            assert_eq!(levels[0].retry_time.is_some(), failure.is_some());
        }
    }

    #[test]
    fn level_whose_failure_may_be_tried_again_is_not_failing() {
        for (token_age, state) in [
            (None, v1::CacheState::Absent),
            (Some(10), v1::CacheState::Fresh),
            (Some(1100), v1::CacheState::Due),
        ] {
            let mut over = key(token_age, Some(Reason::RegistryUnauthorized));
            if let Some((_error, retry_at)) = &mut over.failure {
                *retry_at = at(10_000).wall;
            }
            let levels = states(over, key(None, None), None);
            assert_eq!(levels[0].state(), state, "{token_age:?}");
            assert_eq!(levels[0].retry_time, None);
            assert_eq!(
                levels[0].failure_reason, "REGISTRY_UNAUTHORIZED",
                "of the last try"
            );
            assert_eq!(outlook(&levels).0, v1::Verdict::Passed);
        }
    }

    #[test]
    fn level_of_the_identity_itself_is_there_where_it_becomes_an_application() {
        let chain = |identity| ChainState {
            identity,
            entra: key(None, None),
            refresh: key(None, None),
            access: None,
            at: at(10_000),
        };
        let names = |levels: &[v1::CacheLevel]| -> Vec<String> {
            levels.iter().map(|level| level.name.clone()).collect()
        };
        assert_eq!(names(&of(&chain(None))), ["entra", "acr_refresh"]);
        let levels = of(&chain(Some(key(None, Some(Reason::IdentityNotFound)))));
        assert_eq!(names(&levels), ["identity", "entra", "acr_refresh"]);
        assert_eq!(
            outlook(&levels),
            (
                v1::Verdict::Failing,
                "IDENTITY_NOT_FOUND".to_owned(),
                "permitted, and Azure issued no token identity when it was last asked: the identity was not found".to_owned()
            )
        );
    }

    #[test]
    fn outlook_is_decided_by_the_last_level_that_knows() {
        let none = || key(None, None);
        let fresh = || key(Some(10), None);
        let failing = |reason| key(None, Some(reason));
        let verdict = |levels: Vec<v1::CacheLevel>| {
            let (verdict, reason, _detail) = outlook(&levels);
            (verdict, reason)
        };
        let passed = (v1::Verdict::Passed, String::new());
        assert_eq!(verdict(states(none(), none(), Some(none()))), passed);
        // Entra being down does not matter while a registry token lives.
        let entra_down = || failing(Reason::EntraUnreachable);
        assert_eq!(verdict(states(entra_down(), fresh(), Some(none()))), passed);
        assert_eq!(verdict(states(entra_down(), none(), Some(fresh()))), passed);
        assert_eq!(
            verdict(states(entra_down(), none(), Some(none()))),
            (v1::Verdict::Failing, "ENTRA_UNREACHABLE".to_owned())
        );
        assert_eq!(
            verdict(states(fresh(), fresh(), Some(failing(Reason::ScopeRejected)))),
            (v1::Verdict::Failing, "SCOPE_REJECTED".to_owned())
        );
    }
}
