//! What a caller learns when the broker does not answer with a credential.

use std::time::Duration;

use proto::Reason;
use runtime::tls::TlsError;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The client cannot be set up as asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address at all.
    #[error("broker address {address:?} is not a URL such as https://acrpull-broker.acrpull-system.svc:8443")]
    Address {
        /// What was given.
        address: String,
        /// Why.
        #[source]
        source: http::uri::InvalidUri,
    },
    /// Another scheme, or no host.
    #[error("broker address {address:?} must start with https:// and name a host")]
    NotHttps {
        /// What was given.
        address: String,
    },
    /// A host that no certificate can name.
    #[error("the broker's host {host:?} is neither a DNS name nor an IP address")]
    Host {
        /// What was given.
        host: String,
        /// Why.
        #[source]
        source: rustls_pki_types::InvalidDnsNameError,
    },
    /// The CA file is not usable.
    #[error("cannot use the broker's CA file")]
    Ca(#[source] TlsError),
    /// No CA file, and the system has no roots either.
    #[error("the system has no root certificates, so give the broker's CA file")]
    NoSystemRoots,
    /// The TLS configuration is refused.
    #[error("cannot set up TLS to the broker")]
    Tls(#[source] rustls::Error),
}

/// Why there is no credential. The text is the broker's public text: stable, and free of ids, times and secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BrokerError {
    /// From the catalogue.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// When to ask again, if the broker said.
    pub retry_after: Option<Duration>,
}

impl BrokerError {
    pub(crate) fn from_status(status: &Status) -> Self {
        let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        if let Some(reason) = reason_of(status) {
            return Self {
                reason,
                message: status.message().to_owned(),
                retry_after,
            };
        }
        // Not an answer of the broker: the transport's own text names addresses and changes from try to try.
        let reason = if status.code() == Code::Unauthenticated {
            Reason::CallerUnauthenticated
        } else if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) {
            Reason::DeadlineExceeded
        } else {
            Reason::BrokerUnreachable
        };
        Self {
            reason,
            message: reason.title().to_owned(),
            retry_after,
        }
    }
}

/// The reason that the broker gave, if this status came from the broker.
pub(crate) fn reason_of(status: &Status) -> Option<Reason> {
    let info = status.get_details_error_info()?;
    let is_ours = info.domain == proto::ERROR_DOMAIN;
    is_ours.then(|| Reason::from_wire(&info.reason).unwrap_or_else(|| Reason::standing_for(status.code())))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn r5_reason_that_a_newer_broker_says_keeps_its_text_and_its_wait() {
        let mut details =
            ErrorDetails::with_error_info("MOON_PHASE_WRONG", proto::ERROR_DOMAIN, HashMap::new());
        details.set_retry_info(Some(Duration::from_secs(7)));
        let status = Status::with_error_details(Code::PermissionDenied, "wait for the full moon", details);
        let error = BrokerError::from_status(&status);
        assert_eq!(error.reason, Reason::PolicyDenied);
        assert_eq!(error.message, "wait for the full moon");
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn reason_of_a_stranger_on_the_way_is_not_the_brokers() {
        let details = ErrorDetails::with_error_info("POLICY_DENIED", "mesh.example", HashMap::new());
        let status = Status::with_error_details(Code::PermissionDenied, "no", details);
        assert_eq!(
            BrokerError::from_status(&status).reason,
            Reason::BrokerUnreachable
        );
    }
}
