//! What the instance metadata service says to a request for a managed identity's token.

use std::time::Duration;

use proto::Reason;

use super::{Party, Refusal, UpstreamError};
use crate::{azure::refusal::Detail, error::CredentialError};

/// Somebody else answers in its place, and will do so for a while.
const NOT_THE_SERVICE: Duration = Duration::from_secs(60);

/// `identity` names the declared identity.
pub(in crate::azure) fn imds(error: &UpstreamError, identity: &str) -> CredentialError {
    let identity = identity.to_owned();
    Party {
        name: "the instance metadata service".into(),
        down: Reason::IdentityEndpointUnreachable,
        nowhere: Reason::IdentityEndpointUnreachable,
        refused: Box::new(move |refusal| refused(refusal, &identity)),
    }
    .classify(error)
}

fn refused(refusal: &Refusal, identity: &str) -> CredentialError {
    match (refusal.status, refusal.code.as_deref()) {
        // What it says while it is being updated; 404 also before it knows an identity.
        (404 | 410, _) => CredentialError::new(
            Reason::IdentityEndpointUnreachable,
            "the instance metadata service is being updated",
        ),
        // The required header was lost on the way, or a proxy of a desktop speaks: this is not the service.
        (403, _) | (400, Some("bad_request_102")) => CredentialError::new(
            Reason::IdentityEndpointUnreachable,
            "something else answers in the place of the instance metadata service: the broker's host, or \
             egress.imdsEndpoint, must have one",
        )
        .retry_after(NOT_THE_SERVICE),
        (_, Some("invalid_resource")) => CredentialError::new(
            Reason::AudienceRejected,
            "the metadata service does not know the audience that was asked for",
        ),
        (400, _) if refusal.detail == Some(Detail::IdentityMissing) => CredentialError::new(
            Reason::IdentityNotFound,
            format!("{identity} is not assigned to the broker's host"),
        ),
        (status, _) => CredentialError::new(
            Reason::IdentityNotFound,
            format!("the metadata service refused {identity} with status {status}"),
        ),
    }
}
