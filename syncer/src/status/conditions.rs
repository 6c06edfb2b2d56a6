//! The conditions. `Ready` sums up the three parts; it stays True while the Secret holds a valid token, whatever
//! stands in the way of the next one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use proto::Reason;

use super::{Observation, condition};
use crate::{links, plan::Link};

pub(super) const READY: &str = "Ready";
pub(super) const CREDENTIAL_ISSUED: &str = "CredentialIssued";
pub(super) const SECRET_SYNCED: &str = "SecretSynced";
pub(super) const SERVICE_ACCOUNT_LINKED: &str = "ServiceAccountLinked";
pub(super) const REFRESH_DEGRADED: &str = "RefreshDegraded";

pub(super) const TRUE: &str = "True";
const FALSE: &str = "False";
const UNKNOWN: &str = "Unknown";
const PENDING: &str = "Pending";

/// Status, reason and message of a condition.
struct Verdict {
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: TRUE,
            reason,
            message: message.into(),
        }
    }

    fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: FALSE,
            reason,
            message: message.into(),
        }
    }

    fn pending() -> Self {
        Self {
            status: UNKNOWN,
            reason: PENDING,
            message: "in progress".to_owned(),
        }
    }

    fn copy(&self) -> Self {
        Self {
            status: self.status,
            reason: self.reason,
            message: self.message.clone(),
        }
    }
}

/// Ours, computed anew, and those of others as they are.
pub(super) fn next(before: &[Condition], seen: &Observation<'_>, now: &Time) -> Vec<Condition> {
    let (issued, synced, linked) = (
        credential_issued(seen),
        secret_synced(seen),
        service_account_linked(seen),
    );
    let ready = [&issued, &synced, &linked]
        .into_iter()
        .find(|part| part.status != TRUE)
        .map_or_else(
            || Verdict::yes("CredentialCurrent", "the Secret holds a valid token"),
            Verdict::copy,
        );
    let ours = [
        (READY, ready),
        (CREDENTIAL_ISSUED, issued),
        (SECRET_SYNCED, synced),
        (SERVICE_ACCOUNT_LINKED, linked),
        (REFRESH_DEGRADED, refresh_degraded(seen)),
    ];
    let theirs = before
        .iter()
        .filter(|one| ours.iter().all(|(kind, _verdict)| one.type_ != *kind))
        .cloned();
    let theirs: Vec<_> = theirs.collect();
    let ours = ours.into_iter().map(
        |(
            kind,
            Verdict {
                status,
                reason,
                message,
            },
        )| Condition {
            last_transition_time: condition(before, kind)
                .filter(|earlier| earlier.status == status)
                .map_or_else(|| now.clone(), |earlier| earlier.last_transition_time.clone()),
            message,
            observed_generation: seen.generation,
            reason: reason.to_owned(),
            status: status.to_owned(),
            type_: kind.to_owned(),
        },
    );
    ours.chain(theirs).collect()
}

fn credential_issued(seen: &Observation<'_>) -> Verdict {
    // Valid for now: the next round of a fight is not news.
    let is_contested = seen
        .problem
        .is_some_and(|problem| problem.reason == Reason::Contested);
    if seen.is_valid() && !is_contested {
        return Verdict::yes("Issued", "the token is valid and was issued for this spec");
    }
    match seen.problem {
        Some(problem) => Verdict::no(problem.reason.as_str(), problem.message.clone()),
        None if seen.fitting().is_some() => Verdict::no(
            Reason::CredentialExpired.as_str(),
            Reason::CredentialExpired.title(),
        ),
        None => Verdict::pending(),
    }
}

fn secret_synced(seen: &Observation<'_>) -> Verdict {
    match seen.problem {
        Some(problem)
            if matches!(
                problem.reason,
                Reason::SecretConflict | Reason::Contested | Reason::KubernetesDenied
            ) =>
        {
            Verdict::no(problem.reason.as_str(), problem.message.clone())
        }
        Some(_) | None if seen.fitting().is_some() => {
            Verdict::yes("Applied", format!("Secret {} is up to date", seen.secret_name))
        }
        Some(_) | None => Verdict::pending(),
    }
}

fn service_account_linked(seen: &Observation<'_>) -> Verdict {
    match seen.link {
        Link::Present => {
            let verb = if seen.accounts.len() == 1 { "lists" } else { "list" };
            let accounts = links::named(seen.accounts);
            Verdict::yes("Linked", format!("{accounts} {verb} {}", seen.secret_name))
        }
        Link::NoAccount(missing) => {
            let verb = if missing.len() == 1 { "does" } else { "do" };
            Verdict::no(
                Reason::ServiceAccountNotFound.as_str(),
                format!("{} {verb} not exist", links::named(missing)),
            )
        }
        Link::Contested(accounts) => Verdict::no(
            Reason::Contested.as_str(),
            format!(
                "somebody else keeps removing {} from {}: it is put back ever less often",
                seen.secret_name,
                links::named(accounts)
            ),
        ),
        Link::Withheld => Verdict::no(
            Reason::SecretConflict.as_str(),
            format!(
                "Secret {} belongs to somebody else and is not linked",
                seen.secret_name
            ),
        ),
        Link::Failed(problem) => Verdict::no(problem.reason.as_str(), problem.message.clone()),
        Link::Missing => Verdict::pending(),
    }
}

fn refresh_degraded(seen: &Observation<'_>) -> Verdict {
    match seen.problem {
        // What is fought over is the Secret, not the next token.
        Some(problem) if seen.is_valid() && problem.reason != Reason::Contested => {
            Verdict::yes("RefreshFailing", problem.message.clone())
        }
        None if seen.degraded && seen.is_valid() => Verdict::yes(
            "RefreshFailing",
            "Azure did not renew the token although it was due; it is still valid",
        ),
        Some(_) | None => Verdict::no("RefreshHealthy", ""),
    }
}
