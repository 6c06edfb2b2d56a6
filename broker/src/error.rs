//! Every failure of a request, classified once: reason, public text, when to ask again. gRPC and HTTP answers, metrics
//! and logs all follow from that.

use std::{borrow::Cow, time::Duration};

use proto::Reason;

use crate::{
    access::NotPermitted,
    authn::{AuthnError, TokenError},
    authz::Denied,
    request::InvalidField,
};

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
                | TokenError::Malformed
                | TokenError::OtherCluster
                | TokenError::Expired
                | TokenError::NotYetValid
                | TokenError::Audience
                | TokenError::NotAServiceAccount,
            ) => Reason::CallerUnauthenticated,
            AuthnError::Subject(
                TokenError::Missing
                | TokenError::Malformed
                | TokenError::UnknownIssuer
                | TokenError::Signature
                | TokenError::OtherCluster
                | TokenError::Expired
                | TokenError::NotYetValid
                | TokenError::Audience
                | TokenError::NotAServiceAccount,
            ) => Reason::SubjectTokenRejected,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<NotPermitted> for CredentialError {
    fn from(error: NotPermitted) -> Self {
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

impl From<InvalidField> for CredentialError {
    fn from(invalid: InvalidField) -> Self {
        Self::new(Reason::InvalidRequest, invalid.to_string())
    }
}
