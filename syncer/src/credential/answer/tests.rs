use k8s_openapi::jiff::ToSpan as _;

use super::*;
use crate::{
    binding::ApiVersion,
    samples::{binding_of, now},
    wanted,
};

fn issue(held: Option<Credential>) -> Issue {
    let wanted = wanted::read(&binding_of(ApiVersion::V1Beta2, "web"), None).unwrap();
    Issue {
        wanted,
        held,
        force: false,
        request: None,
    }
}

pub(in crate::credential) fn held() -> Credential {
    Credential {
        inputs: "same".to_owned(),
        fingerprint: Fingerprint::of(b"held"),
        refreshed_at: now() - 50.minutes(),
        expires_at: now() + 25.minutes(),
        refresh_at: now(),
    }
}

fn response(payload: &'static [u8], expires_in_minutes: i64) -> GetDockerConfigResponse {
    let at = |minutes: i64| {
        Some(pbjson_types::Timestamp {
            seconds: now().as_second() + minutes * 60,
            nanos: 0,
        })
    };
    GetDockerConfigResponse {
        docker_config_json: payload.into(),
        not_modified: false,
        expire_time: at(expires_in_minutes),
        refresh_time: at(expires_in_minutes / 2),
        granted_scopes: vec!["repository:a:pull".to_owned(), "repository:b:pull".to_owned()],
        fingerprint: Fingerprint::of(payload).as_bytes().to_vec().into(),
        degraded: false,
    }
}

#[test]
fn answer_with_a_newer_credential_is_taken() {
    let answer = read(response(b"new", 75), &issue(Some(held())), now(), 0.0).unwrap();
    assert_eq!(answer.payload.as_deref(), Some(b"new".as_slice()));
    assert_eq!(answer.credential.expires_at, now() + 75.minutes());
    assert_eq!(answer.credential.refresh_at, now() + 37.minutes());
    assert_eq!(answer.credential.refreshed_at, now());
    assert_eq!(answer.granted_scope, "repository:a:pull repository:b:pull");
}

#[test]
fn answer_not_modified_moves_the_refresh_only() {
    let not_modified = GetDockerConfigResponse {
        not_modified: true,
        docker_config_json: b"".as_slice().into(),
        ..response(b"", 25)
    };
    let answer = read(not_modified.clone(), &issue(Some(held())), now(), 0.0).unwrap();
    assert!(answer.payload.is_none());
    assert_eq!(
        answer.credential,
        Credential {
            refresh_at: now() + 12.minutes(),
            ..held()
        }
    );
    assert_eq!(
        read(not_modified, &issue(None), now(), 0.0).err().unwrap().reason,
        Reason::Internal
    );
}

#[test]
fn s8_answer_that_expires_earlier_than_the_secret_is_left() {
    let answer = read(response(b"older", 20), &issue(Some(held())), now(), 0.0).unwrap();
    assert!(answer.payload.is_none());
    assert_eq!(answer.credential.expires_at, held().expires_at);
    assert!(answer.credential.refresh_at > now());
}

#[test]
fn b14_answer_with_the_payload_that_is_held_says_when_that_expires() {
    let held = Credential {
        fingerprint: Fingerprint::of(b"held"),
        expires_at: now() + 600.minutes(),
        ..held()
    };
    let not_modified = GetDockerConfigResponse {
        not_modified: true,
        docker_config_json: b"".as_slice().into(),
        ..response(b"held", 25)
    };
    for response in [not_modified, response(b"held", 25)] {
        let answer = read(response, &issue(Some(held.clone())), now(), 0.0).unwrap();
        assert!(answer.payload.is_none(), "it is there already");
        assert_eq!(answer.credential.expires_at, now() + 25.minutes());
        assert_eq!(answer.credential.fingerprint, held.fingerprint);
    }
}

#[test]
fn answer_that_breaks_the_contract_is_refused() {
    let breaks: [fn(&mut GetDockerConfigResponse); 4] = [
        |response| response.expire_time = None,
        |response| response.refresh_time = None,
        |response| response.docker_config_json = b"".as_slice().into(),
        |response| response.fingerprint = b"other".as_slice().into(),
    ];
    for break_it in breaks {
        let mut broken = response(b"new", 75);
        break_it(&mut broken);
        assert_eq!(
            read(broken, &issue(None), now(), 0.0).err().unwrap().reason,
            Reason::Internal
        );
    }
}

/// One that is not modified as well: by this clock, what the Secret holds has expired.
#[test]
fn answer_that_has_expired_by_our_clock_speaks_of_the_clocks() {
    for not_modified in [true, false] {
        let response = GetDockerConfigResponse {
            not_modified,
            ..response(b"new", 75)
        };
        let ahead = now() + 75.minutes();
        let problem = read(response, &issue(Some(held())), ahead, 0.0).err().unwrap();
        assert_eq!(problem.reason, Reason::ClockAhead);
        assert!(problem.message.contains("compare the clocks"), "{problem}");
    }
}
