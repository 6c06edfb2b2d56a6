//! What a caller learns when the broker does not answer with a credential.

use std::{error::Error as _, time::Duration};

use proto::Reason;
use runtime::tls::TlsError;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Where the broker puts it in `ErrorInfo.metadata`.
const AZURE_REQUEST_ID: &str = "azure.request_id";

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
    /// Certificate or key of this process is not usable.
    #[error("cannot use the client certificate for the broker")]
    Certificate(#[source] TlsError),
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
    /// What Azure's support asks for, if Azure said no. For logs: it is another one each time.
    pub azure_request_id: Option<String>,
}

impl BrokerError {
    pub(crate) fn from_status(status: &Status) -> Self {
        let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        if let Some(reason) = reason_of(status) {
            return Self {
                reason,
                message: status.message().to_owned(),
                retry_after,
                azure_request_id: status
                    .get_details_error_info()
                    .and_then(|mut info| info.metadata.remove(AZURE_REQUEST_ID)),
            };
        }
        // Not an answer of the broker: the transport's own text names addresses and changes from try to try. A stream that
        // breaks has a source, and may call itself cancelled: a replica that dies resets its streams so.
        let is_answer = status.source().is_none();
        let reason = if status.code() == Code::Unauthenticated {
            Reason::CallerUnauthenticated
        } else if is_answer && matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) {
            Reason::DeadlineExceeded
        } else {
            Reason::BrokerUnreachable
        };
        Self {
            reason,
            message: reason.title().to_owned(),
            retry_after,
            azure_request_id: None,
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
    fn l3_error_keeps_the_request_id_that_azures_support_asks_for() {
        let id = || HashMap::from([("azure.request_id".to_owned(), "request-1".to_owned())]);
        let said = |domain: &str| {
            let details = ErrorDetails::with_error_info("FEDERATION_REJECTED", domain, id());
            let status = Status::with_error_details(Code::FailedPrecondition, "no", details);
            BrokerError::from_status(&status)
        };
        let error = said(proto::ERROR_DOMAIN);
        assert_eq!(error.azure_request_id.as_deref(), Some("request-1"));
        assert_eq!(error.to_string(), "no", "the text stays the same each time");
        assert_eq!(said("mesh.example").azure_request_id, None);
    }

    #[test]
    fn error_of_a_stream_that_a_dying_replica_resets_is_no_deadline() {
        let mut reset =
            Status::cancelled("h2 protocol error: stream error received: stream no longer needed");
        assert_eq!(BrokerError::from_status(&reset).reason, Reason::DeadlineExceeded);
        reset.set_source(std::sync::Arc::new(std::io::Error::other("reset")));
        assert_eq!(BrokerError::from_status(&reset).reason, Reason::BrokerUnreachable);
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
