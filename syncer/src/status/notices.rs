//! The events that a change of the status is worth: what changed, once; never a refresh that went as it should.

use super::{
    condition,
    conditions::{CREDENTIAL_ISSUED, PARTLY_GRANTED, SERVICE_ACCOUNT_LINKED, TRUE},
};
use crate::crd::AcrPullBindingStatus;

/// An event to publish on the binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Something needs attention.
    pub warning: bool,
    /// Of the condition.
    pub reason: String,
    /// What was tried.
    pub action: &'static str,
    /// In words.
    pub note: String,
}

/// The events for a change of the status.
pub fn notices(before: &AcrPullBindingStatus, after: &AcrPullBindingStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    for (kind, success, action) in [
        (SERVICE_ACCOUNT_LINKED, "ServiceAccountLinked", "Link"),
        (CREDENTIAL_ISSUED, "CredentialIssued", "Issue"),
    ] {
        let was_true = condition(&before.conditions, kind).is_some_and(|earlier| earlier.status == TRUE);
        if let Some(now) = condition(&after.conditions, kind).filter(|now| now.status == TRUE && !was_true) {
            notices.push(Notice {
                warning: false,
                reason: success.to_owned(),
                action,
                note: now.message.clone(),
            });
        }
    }
    let warn = |reason: &str, action, note: &str| Notice {
        warning: true,
        reason: reason.to_owned(),
        action,
        note: note.to_owned(),
    };
    if let Some(partly) =
        condition(&after.conditions, CREDENTIAL_ISSUED).filter(|issued| issued.reason == PARTLY_GRANTED)
        && condition(&before.conditions, CREDENTIAL_ISSUED)
            .is_none_or(|earlier| earlier.message != partly.message)
    {
        notices.push(warn(PARTLY_GRANTED, "Issue", &partly.message));
    }
    // Told again only when it is another failure, or the same one after a recovery.
    if let Some(failure) = after
        .last_failure
        .as_ref()
        .filter(|_failure| after.error.is_some())
        && before.last_failure.as_ref() != Some(failure)
    {
        notices.push(warn(&failure.reason, "Issue", &failure.message));
    }
    if let Some(link) =
        condition(&after.conditions, SERVICE_ACCOUNT_LINKED).filter(|link| link.status == "False")
    {
        let earlier = condition(&before.conditions, SERVICE_ACCOUNT_LINKED);
        let is_new = earlier.is_none_or(|earlier| earlier.reason != link.reason);
        // One event is enough when the same reason stops both.
        if is_new && notices.iter().all(|notice| notice.reason != link.reason) {
            notices.push(warn(&link.reason, "Link", &link.message));
        }
    }
    notices
}
