//! What the status of a binding says. Pure: computed from the status before and from what a pass saw, compared
//! before it is written.
//!
//! The status must settle. Its texts are stable, a transition time moves only with its condition, and what changes
//! with each attempt (the count of failures) is not worth a write of its own before `QUIET` has passed.

mod conditions;
mod notices;

use std::time::Duration;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use serde_json::{Map, Value};

use crate::{
    crd::{AcrPullBindingStatus, LastFailure},
    plan::Link,
    problem::Problem,
    pull_secret::Credential,
    schedule,
};

pub use notices::{Notice, notices};

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
    /// What stands in the way.
    pub problem: Option<&'a Problem>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// The broker renewed nothing although it was due.
    pub degraded: bool,
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

    /// The credential works.
    fn is_valid(&self) -> bool {
        self.fitting().is_some_and(|held| held.expires_at > self.now)
    }
}

/// The status after a pass.
pub fn next(before: &AcrPullBindingStatus, seen: &Observation<'_>) -> AcrPullBindingStatus {
    let time = |at: Timestamp| Time(Timestamp::from_second(at.as_second()).unwrap_or(at));
    AcrPullBindingStatus {
        last_token_refresh_time: seen.credential.map(|held| time(held.refreshed_at)),
        token_expiration_time: seen.credential.map(|held| time(held.expires_at)),
        error: seen.problem.map(|problem| problem.message.clone()),
        conditions: conditions::next(&before.conditions, seen, &time(seen.now)),
        observed_generation: seen.generation,
        pull_secret_name: Some(seen.secret_name.to_owned()),
        next_refresh_time: seen.fitting().map(|held| time(held.refresh_at)),
        consecutive_failures: (seen.attempts > 0).then_some(i64::from(seen.attempts)),
        last_failure: last_failure(before, seen, time(seen.now)),
        granted_scope: match seen.fitting() {
            // After a restart the last answer is not known, and the status still tells what it was.
            Some(_held) => seen
                .granted_scope
                .map(str::to_owned)
                .or_else(|| before.granted_scope.clone())
                // A token for a whole registry has none.
                .filter(|scope| !scope.is_empty()),
            None => None,
        },
    }
}

/// A failure that goes on is the same failure: its time and its trace are those of the first attempt.
fn last_failure(before: &AcrPullBindingStatus, seen: &Observation<'_>, now: Time) -> Option<LastFailure> {
    let Some(problem) = seen.problem else {
        return before.last_failure.clone();
    };
    let goes_on = before.last_failure.as_ref().filter(|last| {
        before.error.is_some() && last.reason == problem.reason.as_str() && last.message == problem.message
    });
    Some(goes_on.cloned().unwrap_or_else(|| LastFailure {
        reason: problem.reason.as_str().to_owned(),
        message: problem.message.clone(),
        time: now,
        trace_id: seen.trace_id.map(str::to_owned),
    }))
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
