//! The conditions. `Ready` sums up the three parts; it stays True while the Secret holds a valid token, whatever
//! stands in the way of the next one. With one exception: what somebody keeps undoing (`Contested`) is not ready, valid or
//! not. The Secret, or the link, may be gone at the moment that a Pod starts, and a `Ready` that followed each round would be
//! written, and told, over and over.
//!
//! `Reconciling` and `Stalled` are there for tools that know nothing of this kind (kstatus: Flux, kpt, `kubectl` plug-ins),
//! and only while they are True. A binding that is not ready has exactly one of them: it is stalled when nothing helps
//! before somebody changes something, which is what those tools give up on. One that is fought over is not: the repairs go
//! on, and it passes by itself when the other one stops. A ready one has neither, so what happens in
//! the background of a valid token is no news for them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use proto::{
    Reason,
    catalogue::{Owner, RetryClass},
};

use super::{Observation, condition};
use crate::{links, plan::Link, problem::Stage};

pub(super) const READY: &str = "Ready";
pub(super) const CREDENTIAL_ISSUED: &str = "CredentialIssued";
pub(super) const SECRET_SYNCED: &str = "SecretSynced";
pub(super) const SERVICE_ACCOUNT_LINKED: &str = "ServiceAccountLinked";
pub(super) const REFRESH_DEGRADED: &str = "RefreshDegraded";
pub(super) const RECONCILING: &str = "Reconciling";
pub(super) const STALLED: &str = "Stalled";
/// In the order in which they are shown.
const OURS: [&str; 7] = [
    READY,
    CREDENTIAL_ISSUED,
    SECRET_SYNCED,
    SERVICE_ACCOUNT_LINKED,
    REFRESH_DEGRADED,
    RECONCILING,
    STALLED,
];

/// The reason of a token for less than was asked for.
pub(super) const PARTLY_GRANTED: &str = "PartlyGranted";

pub(super) const TRUE: &str = "True";
pub(super) const FALSE: &str = "False";
const UNKNOWN: &str = "Unknown";
const PENDING: &str = "Pending";

/// Status, reason and message of a condition.
#[derive(Clone)]
pub(super) struct Verdict {
    status: &'static str,
    reason: &'static str,
    message: String,
    /// Nothing helps before somebody changes something.
    is_final: bool,
}

impl Verdict {
    fn new(status: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
            is_final: false,
        }
    }

    fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(TRUE, reason, message)
    }

    /// For a reason of the catalogue, which says whether it can pass by itself.
    pub(super) fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            is_final: is_final(reason),
            ..Self::new(FALSE, reason.as_str(), message)
        }
    }

    fn pending() -> Self {
        Self::new(UNKNOWN, PENDING, "in progress")
    }

    /// The same, told by a condition that is there only while it is True.
    pub(super) fn abnormal(self) -> Self {
        Self { status: TRUE, ..self }
    }
}

/// Whether nothing helps before somebody changes something. A grant does not count as such a change: it comes late as a
/// rule, and is waited for.
fn is_final(reason: Reason) -> bool {
    match reason.retry_class() {
        // The other one may stop any time, and no attempt was refused.
        RetryClass::Permanent => reason != Reason::Contested,
        // What is wrong with the syncer's own token is no matter of one binding.
        RetryClass::Caller => reason.owner() == Owner::ApplicationTeam,
        RetryClass::Waiting | RetryClass::Throttled | RetryClass::Transient | RetryClass::Denied => false,
    }
}

/// Ours, computed anew, and those of others as they are.
pub(super) fn next(
    before: &[Condition],
    seen: &Observation<'_>,
    shortfall: Option<&str>,
    now: &Time,
) -> Vec<Condition> {
    let parts = [
        credential_issued(seen, shortfall),
        secret_synced(seen),
        service_account_linked(seen),
    ];
    let ready = ready(&parts, shortfall);
    let progress = progress(&ready, &parts);
    let [issued, synced, linked] = parts;
    let ours = [
        (READY, ready),
        (CREDENTIAL_ISSUED, issued),
        (SECRET_SYNCED, synced),
        (SERVICE_ACCOUNT_LINKED, linked),
        (REFRESH_DEGRADED, refresh_degraded(seen)),
    ];
    let ours = ours.into_iter().chain(progress);
    let ours = ours.map(|(kind, verdict)| put(before, kind, verdict, seen.generation, now));
    ours.chain(of_others(before)).collect()
}

/// A condition whose time moves only with its status.
pub(super) fn put(
    before: &[Condition],
    kind: &str,
    verdict: Verdict,
    generation: Option<i64>,
    now: &Time,
) -> Condition {
    let Verdict {
        status,
        reason,
        message,
        is_final: _,
    } = verdict;
    Condition {
        last_transition_time: condition(before, kind)
            .filter(|earlier| earlier.status == status)
            .map_or_else(|| now.clone(), |earlier| earlier.last_transition_time.clone()),
        message,
        observed_generation: generation,
        reason: reason.to_owned(),
        status: status.to_owned(),
        type_: kind.to_owned(),
    }
}

pub(super) fn of_others(before: &[Condition]) -> impl Iterator<Item = Condition> {
    before
        .iter()
        .filter(|one| !OURS.contains(&one.type_.as_str()))
        .cloned()
}

/// The first part that fails, or else the first that is not known yet.
fn ready(parts: &[Verdict; 3], shortfall: Option<&str>) -> Verdict {
    let is = |status| parts.iter().find(|part| part.status == status);
    is(FALSE).or_else(|| is(UNKNOWN)).map_or_else(
        || match shortfall {
            // The token works for what was granted: it is as ready as it gets, and says what will fail.
            Some(shortfall) => Verdict::yes(PARTLY_GRANTED, shortfall),
            None => Verdict::yes("CredentialCurrent", "the Secret holds a valid token"),
        },
        Verdict::clone,
    )
}

/// What a binding that is not ready is: on its way, or stalled.
fn progress(ready: &Verdict, parts: &[Verdict; 3]) -> Option<(&'static str, Verdict)> {
    let stalled = parts
        .iter()
        .find(|part| part.status == FALSE && part.is_final)
        .map(|part| (STALLED, part.clone().abnormal()));
    let on_its_way = || (RECONCILING, ready.clone().abnormal());
    (ready.status != TRUE).then(|| stalled.unwrap_or_else(on_its_way))
}

fn credential_issued(seen: &Observation<'_>, shortfall: Option<&str>) -> Verdict {
    // Valid for now: the next round of a fight is not news.
    if seen.is_valid() && !seen.is_fought_over() {
        if let Some(shortfall) = shortfall {
            return Verdict::yes(PARTLY_GRANTED, shortfall);
        }
        return Verdict::yes("Issued", "the token is valid and was issued for this spec");
    }
    match seen.problem {
        Some(problem) => Verdict::no(problem.reason, problem.message.clone()),
        None if seen.fits_until().is_some() => {
            Verdict::no(Reason::CredentialExpired, Reason::CredentialExpired.title())
        }
        None => Verdict::pending(),
    }
}

fn secret_synced(seen: &Observation<'_>) -> Verdict {
    match seen.problem {
        // A Secret with a valid token serves, even if the next one cannot be written; but not one that is fought over.
        Some(problem) if problem.stage == Stage::Secret && (!seen.is_valid() || seen.is_fought_over()) => {
            Verdict::no(problem.reason, problem.message.clone())
        }
        Some(_) | None if seen.fits_until().is_some() => {
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
                Reason::ServiceAccountNotFound,
                format!("{} {verb} not exist", links::named(missing)),
            )
        }
        Link::Contested(accounts) => Verdict::no(
            Reason::Contested,
            format!(
                "somebody else keeps removing {} from {}: it is put back ever less often",
                seen.secret_name,
                links::named(accounts)
            ),
        ),
        Link::Withheld => Verdict::no(
            Reason::SecretConflict,
            format!(
                "Secret {} belongs to somebody else: no link to it is made",
                seen.secret_name
            ),
        ),
        Link::Failed(problem) => Verdict::no(problem.reason, problem.message.clone()),
        Link::Missing => Verdict::pending(),
    }
}

fn refresh_degraded(seen: &Observation<'_>) -> Verdict {
    match seen.problem {
        // What is fought over is the Secret, not the next token.
        Some(problem) if seen.is_valid() && problem.reason != Reason::Contested => {
            let reason = if problem.reason == Reason::DuplicateController {
                problem.reason.as_str()
            } else {
                "RefreshFailing"
            };
            Verdict::yes(reason, problem.message.clone())
        }
        None if seen.degraded && seen.is_valid() => Verdict::yes(
            "RefreshFailing",
            "Azure did not renew the token although it was due; it is still valid",
        ),
        Some(_) | None => Verdict::new(FALSE, "RefreshHealthy", ""),
    }
}
