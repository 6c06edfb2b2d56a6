//! Reads the broker's answer. Pure.

use k8s_openapi::jiff::Timestamp;
use proto::{Fingerprint, Reason, v1::GetDockerConfigResponse};

use crate::{plan::Issue, problem::Problem, pull_secret::Credential, schedule};

/// It is not known here which of the two is wrong.
const AHEAD: &str =
    "the broker's token has expired by the clock of the syncer's machine: compare the clocks of both";

/// What the broker answered.
pub struct Answer {
    /// What the Secret holds after this.
    pub credential: Credential,
    /// The payload; none if the Secret holds it already.
    pub payload: Option<Vec<u8>>,
    /// Azure did not renew the credential although it was due.
    pub degraded: bool,
    /// What the registry granted.
    pub granted_scope: String,
}

/// Reads the answer. What is not as the contract says is a fault of the broker and never reaches a Secret.
///
/// # Errors
/// The answer breaks the contract, or what it holds is not valid any more.
pub fn read(
    response: GetDockerConfigResponse,
    issue: &Issue,
    now: Timestamp,
    draw: f64,
) -> Result<Answer, Problem> {
    let broken = |what: &str| Problem::new(Reason::Internal, format!("the broker's answer {what}"));
    let time = |time: Option<pbjson_types::Timestamp>| {
        time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
            .ok_or_else(|| broken("lacks a time"))
    };
    let GetDockerConfigResponse {
        docker_config_json: payload,
        not_modified,
        expire_time,
        refresh_time,
        granted_scopes,
        fingerprint,
        degraded,
    } = response;
    let expires_at = time(expire_time)?;
    let refresh_at = schedule::refresh_at(time(refresh_time)?, expires_at, now, draw);
    let granted_scope = granted_scopes.join(" ");
    // The same payload has the expiry that the broker says it has; another one that of the Secret.
    let keep = |held: &Credential, expires_at: Timestamp| Answer {
        credential: Credential {
            expires_at,
            refresh_at,
            ..held.clone()
        },
        payload: None,
        degraded,
        granted_scope: granted_scope.clone(),
    };
    // By the clock of this machine. The broker hands out nothing that has expired, so that one of the two is wrong; there is
    // nothing to be gained by asking, nor by writing, again and again.
    if expires_at <= now {
        return Err(Problem::new(Reason::ClockAhead, AHEAD));
    }
    if not_modified {
        return issue
            .held
            .as_ref()
            .map(|held| keep(held, expires_at))
            .ok_or_else(|| broken("refers to a credential that nobody holds"));
    }
    if payload.is_empty() {
        return Err(broken("holds no valid credential"));
    }
    let credential = Credential {
        inputs: issue.wanted.inputs.clone(),
        fingerprint: Fingerprint::of(&payload),
        refreshed_at: now,
        expires_at,
        refresh_at,
    };
    if credential.fingerprint.as_bytes() != fingerprint.as_ref() {
        return Err(broken("does not match its fingerprint"));
    }
    match &issue.held {
        Some(held) if held.fingerprint == credential.fingerprint => Ok(keep(held, expires_at)),
        // A replica that holds an older token must not take time away from the Secret.
        Some(held) if expires_at <= held.expires_at => Ok(keep(held, held.expires_at)),
        Some(_) | None => Ok(Answer {
            credential,
            payload: Some(payload.to_vec()),
            degraded,
            granted_scope,
        }),
    }
}

#[cfg(test)]
pub(super) mod tests;
