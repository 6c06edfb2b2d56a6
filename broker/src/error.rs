//! Every failure of a request, classified once: reason, public text, when to ask again. gRPC and HTTP answers, metrics
//! and logs all follow from that.

use std::{borrow::Cow, time::Duration};

use proto::Reason;

use crate::{
    access::NotPermitted,
    authn::{AuthnError, TokenError},
    authz::Denied,
    channel::ChannelError,
    own_account::NotItself,
    request::InvalidField,
    throttle::Throttled,
};

/// What is missing for a moment, room, a turn or a cluster's keys, may be there after this long ...
const SOON: Duration = Duration::from_secs(1);
/// ... and up to this much more, so that callers who were turned away together do not come back together.
const SOON_SPREAD: Duration = Duration::from_secs(4);

/// Why a caller gets no credential. Cheap to clone: all waiters of one fetch share it.
///
/// `message` is for people and stable: the same failure has the same text, with no id and no time in it, because it
/// ends up in the status of a Kubernetes object. It never contains what an upstream server wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CredentialError {
    /// From the catalogue.
    pub reason: Reason,
    /// What happened and whose move it is.
    pub message: Cow<'static, str>,
    /// When to ask again, where that is known.
    pub retry_after: Option<Duration>,
    /// What Azure's support asks for: the request id of the answer that said no.
    pub azure_request_id: Option<String>,
    /// Whether a cache below has remembered it already, with its own time.
    pub is_remembered: bool,
}

impl CredentialError {
    /// A failure with a text of its own.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry_after: None,
            azure_request_id: None,
            is_remembered: false,
        }
    }

    /// A failure for which the catalogue's title says it all.
    pub fn titled(reason: Reason) -> Self {
        Self::new(reason, reason.title())
    }

    /// The same, to be tried again after `wait`.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// The same, to be tried again in 1 to 5 s: what is missing is missing for a moment.
    #[must_use]
    pub fn retry_soon(self) -> Self {
        self.retry_after(SOON + SOON_SPREAD.mul_f64(rand::random()))
    }
}

impl From<AuthnError> for CredentialError {
    fn from(error: AuthnError) -> Self {
        let reason = match &error {
            AuthnError::Caller(TokenError::UnknownIssuer | TokenError::Signature) => {
                Reason::ClusterNotRegistered
            }
            AuthnError::Caller(TokenError::KeysUnavailable)
            | AuthnError::Subject(TokenError::KeysUnavailable) => Reason::ClusterKeysUnavailable,
            AuthnError::Caller(
                TokenError::Missing
                | TokenError::Several
                | TokenError::Malformed
                | TokenError::Claims
                | TokenError::OtherCluster
                | TokenError::Expired
                | TokenError::NotYetValid
                | TokenError::LivesTooLong { .. }
                | TokenError::Audience
                | TokenError::NotAServiceAccount,
            ) => Reason::CallerUnauthenticated,
            AuthnError::Subject(
                TokenError::Missing
                | TokenError::Several
                | TokenError::Malformed
                | TokenError::Claims
                | TokenError::UnknownIssuer
                | TokenError::Signature
                | TokenError::OtherCluster
                | TokenError::Expired
                | TokenError::NotYetValid
                | TokenError::LivesTooLong { .. }
                | TokenError::Audience
                | TokenError::NotAServiceAccount,
            ) => Reason::SubjectTokenRejected,
        };
        let refused = Self::new(reason, error.to_string());
        if reason == Reason::ClusterKeysUnavailable {
            refused.retry_soon()
        } else {
            refused
        }
    }
}

impl From<ChannelError> for CredentialError {
    fn from(error: ChannelError) -> Self {
        Self::new(Reason::CallerUnauthenticated, error.to_string())
    }
}

impl From<NotPermitted> for CredentialError {
    fn from(error: NotPermitted) -> Self {
        Self::new(Reason::CallerNotPermitted, error.to_string())
    }
}

impl From<NotItself> for CredentialError {
    fn from(error: NotItself) -> Self {
        Self::new(Reason::CallerNotPermitted, error.to_string())
    }
}

impl From<Denied> for CredentialError {
    fn from(denied: Denied) -> Self {
        let reason = match &denied {
            Denied::Cloud => Reason::CloudNotConfigured,
            Denied::RegistryDomain { .. } | Denied::RegistryCeiling(_) => Reason::RegistryNotAllowed,
            Denied::TenantCeiling(_) => Reason::TenantNotAllowed,
            Denied::NoTenant => Reason::InvalidRequest,
            Denied::OtherNamespace(_) => Reason::SubjectTokenRejected,
            Denied::NoGrant { .. } => Reason::PolicyDenied,
        };
        Self::new(reason, denied.to_string())
    }
}

impl From<Throttled> for CredentialError {
    fn from(throttled: Throttled) -> Self {
        // The next one may come within a second: rates are whole numbers per second.
        Self::new(Reason::CallerThrottled, throttled.to_string()).retry_soon()
    }
}

impl From<InvalidField> for CredentialError {
    fn from(invalid: InvalidField) -> Self {
        Self::new(Reason::InvalidRequest, invalid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r3_keys_that_are_not_there_yet_are_asked_for_again_soon_and_not_by_all_at_once() {
        let wait = || {
            CredentialError::from(AuthnError::Caller(TokenError::KeysUnavailable))
                .retry_after
                .unwrap()
        };
        let waits: std::collections::HashSet<Duration> = (0..20).map(|_turn| wait()).collect();
        assert!(waits.len() > 1, "spread");
        assert!(
            waits
                .iter()
                .all(|wait| (SOON..=SOON + SOON_SPREAD).contains(wait))
        );
        // A token that is bad stays bad.
        let bad = CredentialError::from(AuthnError::Caller(TokenError::Expired));
        assert_eq!(bad.retry_after, None);
    }
}
