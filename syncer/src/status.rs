//! What the status of a binding says. Pure: computed from the status before and from what a pass saw, compared
//! before it is written.
//!
//! The status must settle. Its texts are stable, a transition time moves only with its condition, and what changes
//! with each attempt (the count of failures) is not worth a write of its own before `QUIET` has passed.

mod conditions;
mod notices;
mod shortfall;
mod unreadable;

use std::time::Duration;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::api::DynamicObject;
use proto::Reason;
use serde_json::{Map, Value};

use crate::{
    crd::{AcrPullBindingStatus, LastFailure},
    plan::Link,
    problem::Problem,
    pull_secret::{Credential, PeersToken},
    schedule,
};

pub use notices::{Names, Notice, Related, Reminder, notices};
pub use unreadable::unreadable;

/// The field manager of the status.
pub const FIELD_MANAGER: &str = "acrpull-syncer-status";
/// The least time between two writes that change nothing but the count of failures.
const QUIET: Duration = Duration::from_secs(10 * 60);

/// What a pass saw.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    /// The generation of the spec that was worked on.
    pub generation: Option<i64>,
    /// The Secret's name.
    pub secret_name: &'a str,
    /// How the links stand.
    pub link: &'a Link,
    /// The ServiceAccounts that are to be linked.
    pub accounts: &'a [&'a str],
    /// What the credential is wanted for, if that is known.
    pub inputs: Option<&'a str>,
    /// The credential in the Secret, if there is one.
    pub credential: Option<&'a Credential>,
    /// The token in the Secret, if it is one that the peer wrote for this spec.
    pub peers: Option<&'a PeersToken>,
    /// What stands in the way.
    pub problem: Option<&'a Problem>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// The broker renewed nothing although it was due.
    pub degraded: bool,
    /// What the binding asks for, as it is written there.
    pub asked_scope: &'a str,
    /// What the registry granted, if this process knows.
    pub granted_scope: Option<&'a str>,
    /// The trace of this pass.
    pub trace_id: Option<&'a str>,
    /// The time of the pass.
    pub now: Timestamp,
}

impl Observation<'_> {
    /// The credential, if it was issued for what is wanted now.
    fn fitting(&self) -> Option<&Credential> {
        self.credential
            .filter(|held| self.inputs == Some(held.inputs.as_str()))
    }

    /// When the token in the Secret expires, if it was issued for what is wanted now, as far as anybody knows.
    fn fits_until(&self) -> Option<Timestamp> {
        let ours = self.fitting().map(|held| held.expires_at);
        ours.or_else(|| self.peers.map(|token| token.expires_at))
    }

    /// Somebody keeps overwriting or deleting the Secret.
    fn is_fought_over(&self) -> bool {
        self.problem
            .is_some_and(|problem| problem.reason == Reason::Contested)
    }

    /// The token works.
    fn is_valid(&self) -> bool {
        self.fits_until().is_some_and(|at| at > self.now)
    }
}

/// What stands in the way, or what the last attempt came to.
struct Failure<'a> {
    reason: &'a str,
    message: &'a str,
    azure_request_id: Option<&'a str>,
}

/// The status of a binding as it was read, whatever else of it can be read.
pub fn of(object: &mut DynamicObject) -> AcrPullBindingStatus {
    let status = object.data.get_mut("status").map(Value::take);
    status
        .and_then(|status| serde_json::from_value(status).ok())
        .unwrap_or_default()
}

/// The status after a pass.
pub fn next(before: &AcrPullBindingStatus, seen: &Observation<'_>) -> AcrPullBindingStatus {
    let granted_scope = match seen.fitting() {
        // After a restart the last answer is not known, and the status still tells what it was.
        Some(_held) => seen
            .granted_scope
            .map(str::to_owned)
            .or_else(|| before.granted_scope.clone())
            // A token for a whole registry has none.
            .filter(|scope| !scope.is_empty()),
        None => None,
    };
    let shortfall = shortfall::shortfall(seen.asked_scope, granted_scope.as_deref());
    let conditions = conditions::next(&before.conditions, seen, shortfall.as_deref(), &seconds(seen.now));
    let failure = failure(seen, &conditions);
    let ours = seen.credential.map(|held| (held.refreshed_at, held.expires_at));
    let token = ours.or_else(|| seen.peers.map(|token| (token.refreshed_at, token.expires_at)));
    AcrPullBindingStatus {
        last_token_refresh_time: token.map(|(refreshed_at, _expires_at)| seconds(refreshed_at)),
        token_expiration_time: token.map(|(_refreshed_at, expires_at)| seconds(expires_at)),
        // The peer takes an `error` for its own, and answers with a status of its own that has none of our fields. One that
        // runs must find none: else the reason would be gone a moment after it was told.
        error: failure
            .as_ref()
            .filter(|failure| failure.reason != Reason::DuplicateController.as_str())
            .map(|failure| failure.message.to_owned()),
        last_failure: last_failure(before, failure, seen.trace_id, seen.now),
        conditions,
        observed_generation: seen.generation,
        pull_secret_name: Some(seen.secret_name.to_owned()),
        next_refresh_time: seen.fitting().map(|held| seconds(held.refresh_at)),
        consecutive_failures: (seen.attempts > 0).then_some(i64::from(seen.attempts)),
        granted_scope,
        // Told by `reconcile::report` where Secrets may not be read.
        credential: None,
    }
}

/// Whether a status says that something stands in the way.
pub fn is_failing(status: &AcrPullBindingStatus) -> bool {
    let is_duplicate = |one: &Condition| one.reason == Reason::DuplicateController.as_str();
    status.error.is_some() || status.conditions.iter().any(is_duplicate)
}

/// What stands in the way of the credential, or else of the link.
fn failure<'a>(seen: &Observation<'a>, conditions: &'a [Condition]) -> Option<Failure<'a>> {
    let of_the_credential = seen.problem.map(|problem| Failure {
        reason: problem.reason.as_str(),
        message: &problem.message,
        azure_request_id: problem.azure_request_id.as_deref(),
    });
    of_the_credential.or_else(|| {
        let link = condition(conditions, conditions::SERVICE_ACCOUNT_LINKED)?;
        (link.status == conditions::FALSE).then_some(Failure {
            reason: &link.reason,
            message: &link.message,
            azure_request_id: None,
        })
    })
}

/// A failure that goes on is the same failure: its time and its ids are those of the first attempt.
fn last_failure(
    before: &AcrPullBindingStatus,
    failure: Option<Failure<'_>>,
    trace_id: Option<&str>,
    now: Timestamp,
) -> Option<LastFailure> {
    let Some(failure) = failure else {
        return before.last_failure.clone();
    };
    let goes_on = before.last_failure.as_ref().filter(|last| {
        is_failing(before) && last.reason == failure.reason && last.message == failure.message
    });
    Some(goes_on.cloned().unwrap_or_else(|| LastFailure {
        reason: failure.reason.to_owned(),
        message: failure.message.to_owned(),
        time: seconds(now),
        trace_id: trace_id.map(str::to_owned),
        azure_request_id: failure.azure_request_id.map(str::to_owned),
    }))
}

/// As the API server keeps times.
fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// Whether the new status is worth a write.
pub fn is_due(
    before: &AcrPullBindingStatus,
    after: &AcrPullBindingStatus,
    written_at: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let settled = |status: &AcrPullBindingStatus| AcrPullBindingStatus {
        consecutive_failures: None,
        ..status.clone()
    };
    if settled(before) != settled(after) {
        return true;
    }
    // A count that goes back to zero comes with a condition that changes; one that grows can wait.
    before.consecutive_failures != after.consecutive_failures
        && written_at.is_none_or(|at| schedule::elapsed(at, now) >= QUIET)
}

/// The merge patch from one status to the other. A merge patch, because an apply would fail whole where an older CRD
/// of the peer is installed that lacks our fields; so it prunes them with a warning.
///
/// # Errors
/// A status is not expressible as JSON.
pub fn merge_patch(
    before: &AcrPullBindingStatus,
    after: &AcrPullBindingStatus,
) -> Result<Value, serde_json::Error> {
    let status = difference(&serde_json::to_value(before)?, &serde_json::to_value(after)?);
    Ok(Value::Object(Map::from_iter([("status".to_owned(), status)])))
}

/// RFC 7396: what is missing afterwards becomes null, lists are replaced whole.
fn difference(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return after.clone();
    };
    let mut patch = Map::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in after {
        match before.get(key) {
            Some(same) if same == value => {}
            Some(old) => {
                patch.insert(key.clone(), difference(old, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

/// A condition by its type.
fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
mod tests;
