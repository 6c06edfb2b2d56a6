//! The events that a change of the status is worth: what changed, once; never a refresh that went as it should, and
//! nothing at a first look at a binding that is as its status says.

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use proto::Reason;

use super::{
    condition,
    conditions::{
        CREDENTIAL_ISSUED, FALSE, PARTLY_GRANTED, REFRESH_DEGRADED, SECRET_SYNCED, SERVICE_ACCOUNT_LINKED,
        TRUE,
    },
    is_failing,
};
use crate::{crd::AcrPullBindingStatus, schedule};

/// A failure that goes on is told again no sooner than this: a cluster forgets events after an hour.
const REMINDER: Duration = Duration::from_secs(60 * 60);

/// An event to publish on the binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Something needs attention.
    pub warning: bool,
    /// In one word: of the catalogue if something failed.
    pub reason: String,
    /// What was tried.
    pub action: &'static str,
    /// In words.
    pub note: String,
    /// What else it is about.
    pub related: Option<Related>,
}

/// An object of the binding's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Related {
    /// The Secret of this name.
    Secret(String),
    /// The ServiceAccount of this name.
    ServiceAccount(String),
}

/// What the binding's events are about.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// Its Secret.
    pub secret: &'a str,
    /// Its ServiceAccount.
    pub account: &'a str,
}

impl Notice {
    /// What went well.
    pub fn normal(reason: &str, action: &'static str, note: impl Into<String>) -> Self {
        Self {
            warning: false,
            reason: reason.to_owned(),
            action,
            note: note.into(),
            related: None,
        }
    }

    /// What needs attention.
    pub fn warning(reason: &str, action: &'static str, note: impl Into<String>) -> Self {
        Self {
            warning: true,
            ..Self::normal(reason, action, note)
        }
    }

    /// The same, about another object as well.
    #[must_use]
    pub fn about(self, related: Related) -> Self {
        Self {
            related: Some(related),
            ..self
        }
    }

    /// The binding took over a Secret that was there, or put its marks back.
    pub fn adopted(secret_name: &str) -> Self {
        let note = format!("owner and label of Secret {secret_name} were set to this binding");
        Self::normal("SecretAdopted", "Adopt", note).about(Related::Secret(secret_name.to_owned()))
    }

    /// A ServiceAccount lists the binding's Secret no longer.
    pub fn unlinked(secret_name: &str, account_name: &str) -> Self {
        let note = format!("ServiceAccount {account_name} lists {secret_name} no longer");
        Self::normal("ServiceAccountUnlinked", "Unlink", note)
            .about(Related::ServiceAccount(account_name.to_owned()))
    }
}

/// The events for a change of the status.
pub fn notices(
    before: &AcrPullBindingStatus,
    after: &AcrPullBindingStatus,
    names: &Names<'_>,
) -> Vec<Notice> {
    // A CRD of the peer keeps no conditions: what was told before this process began is not known then.
    let is_known = !before.conditions.is_empty() || before.token_expiration_time.is_none();
    let mut notices = Vec::new();
    if is_known {
        notices.extend(successes(before, after, names));
        notices.extend(shortfall(before, after, names));
        notices.extend(expiry(before, after, names));
    }
    notices.extend(failures(before, after, names));
    notices
}

/// What became True. A binding that is served at its first attempt is told with one event.
fn successes(before: &AcrPullBindingStatus, after: &AcrPullBindingStatus, names: &Names<'_>) -> Vec<Notice> {
    let secret = || Related::Secret(names.secret.to_owned());
    let linked = became_true(before, after, SERVICE_ACCOUNT_LINKED);
    let issued = became_true(before, after, CREDENTIAL_ISSUED);
    let had_one = before.token_expiration_time.is_some();
    if let (Some(issued), Some(linked), false) = (issued, linked, had_one) {
        let note = format!("{}; {}", issued.message, linked.message);
        return vec![Notice::normal("CredentialIssued", "Issue", note).about(secret())];
    }
    let linked = linked.map(|linked| {
        Notice::normal("ServiceAccountLinked", "Link", linked.message.as_str())
            .about(Related::ServiceAccount(names.account.to_owned()))
    });
    let was_refused = status_of(before, CREDENTIAL_ISSUED) == Some(FALSE);
    let was_degraded = status_of(before, REFRESH_DEGRADED) == Some(TRUE) && is_failing(before);
    let issued = match issued {
        Some(issued) if had_one && was_refused => Some(("CredentialRecovered", issued.message.as_str())),
        Some(issued) => Some(("CredentialIssued", issued.message.as_str())),
        None if was_degraded
            && condition_is(after, REFRESH_DEGRADED, FALSE).is_some()
            && condition_is(after, CREDENTIAL_ISSUED, TRUE).is_some() =>
        {
            Some(("CredentialRecovered", "the token is renewed again"))
        }
        None => None,
    };
    let issued = issued.map(|(reason, note)| Notice::normal(reason, "Issue", note).about(secret()));
    linked.into_iter().chain(issued).collect()
}

/// The registry granted less than was asked for, or something else is missing now.
fn shortfall(
    before: &AcrPullBindingStatus,
    after: &AcrPullBindingStatus,
    names: &Names<'_>,
) -> Option<Notice> {
    let partly = condition(&after.conditions, CREDENTIAL_ISSUED)?;
    let earlier = condition(&before.conditions, CREDENTIAL_ISSUED);
    let is_news =
        partly.reason == PARTLY_GRANTED && earlier.is_none_or(|earlier| earlier.message != partly.message);
    is_news.then(|| {
        Notice::warning(PARTLY_GRANTED, "Issue", partly.message.as_str())
            .about(Related::Secret(names.secret.to_owned()))
    })
}

/// The token ended before there was another.
fn expiry(before: &AcrPullBindingStatus, after: &AcrPullBindingStatus, names: &Names<'_>) -> Option<Notice> {
    let issued = condition(&after.conditions, CREDENTIAL_ISSUED)?;
    let ended = after.token_expiration_time.as_ref()?;
    let was_issued = status_of(before, CREDENTIAL_ISSUED) == Some(TRUE);
    let is_over = issued.status == FALSE && ended.0 <= issued.last_transition_time.0;
    (was_issued && is_over).then(|| {
        let reason = Reason::CredentialExpired;
        Notice::warning(reason.as_str(), "Issue", reason.title())
            .about(Related::Secret(names.secret.to_owned()))
    })
}

/// What fails now and did not before, or for another reason.
fn failures(before: &AcrPullBindingStatus, after: &AcrPullBindingStatus, names: &Names<'_>) -> Vec<Notice> {
    let earlier = failing(before, names);
    let is_told = |notice: &Notice| {
        let mut earlier = earlier.iter();
        earlier.any(|one| one.reason == notice.reason && one.note == notice.note)
            // Where only the peer's fields are kept, the text is all that there is to compare.
            || before.conditions.is_empty() && before.error.as_ref() == Some(&notice.note)
    };
    let mut notices = failing(after, names);
    notices.retain(|notice| !is_told(notice));
    notices
}

/// What stands in the way of the credential and of the link. One is enough when one thing stops both; the same reason is not
/// that: the Secret and the link may be fought over at once.
fn failing(status: &AcrPullBindingStatus, names: &Names<'_>) -> Vec<Notice> {
    let link = condition_is(status, SERVICE_ACCOUNT_LINKED, FALSE);
    let failure = status.last_failure.as_ref();
    let credential = failure
        .filter(|_failure| is_failing(status))
        .filter(|failure| link.is_none_or(|link| link.message != failure.message))
        .map(|failure| {
            let notice = Notice::warning(&failure.reason, "Issue", failure.message.as_str());
            match condition_is(status, SECRET_SYNCED, FALSE) {
                Some(_not_synced) => notice.about(Related::Secret(names.secret.to_owned())),
                None => notice,
            }
        });
    let link = link
        .filter(|link| {
            // A Secret of somebody else is not linked either.
            let is_conflict = link.reason == Reason::SecretConflict.as_str();
            let is_told =
                |notice: &Notice| notice.note == link.message || is_conflict && notice.reason == link.reason;
            !credential.as_ref().is_some_and(is_told)
        })
        .map(|link| {
            Notice::warning(&link.reason, "Link", link.message.as_str())
                .about(Related::ServiceAccount(names.account.to_owned()))
        });
    credential.into_iter().chain(link).collect()
}

/// When the failure that goes on was told last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reminder(Option<Timestamp>);

impl Reminder {
    /// Adds the failure that goes on to what is told, if that was long ago.
    pub fn remind(
        &mut self,
        after: &AcrPullBindingStatus,
        names: &Names<'_>,
        notices: &mut Vec<Notice>,
        now: Timestamp,
    ) {
        let Some(failure) = failing(after, names).into_iter().next() else {
            self.0 = None;
            return;
        };
        let is_told = notices.iter().any(|notice| notice.warning);
        match self.0 {
            Some(told_at) if !is_told && schedule::elapsed(told_at, now) < REMINDER => {}
            // Told by the process before this one.
            None if !is_told => self.0 = Some(now),
            Some(_) | None => {
                if !is_told {
                    notices.push(failure);
                }
                self.0 = Some(now);
            }
        }
    }
}

fn became_true<'a>(
    before: &AcrPullBindingStatus,
    after: &'a AcrPullBindingStatus,
    kind: &str,
) -> Option<&'a Condition> {
    condition_is(after, kind, TRUE).filter(|_now| status_of(before, kind) != Some(TRUE))
}

fn condition_is<'a>(status: &'a AcrPullBindingStatus, kind: &str, value: &str) -> Option<&'a Condition> {
    condition(&status.conditions, kind).filter(|one| one.status == value)
}

fn status_of<'a>(status: &'a AcrPullBindingStatus, kind: &str) -> Option<&'a str> {
    condition(&status.conditions, kind).map(|one| one.status.as_str())
}
