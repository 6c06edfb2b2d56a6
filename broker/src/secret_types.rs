//! The types of this crate that hold a secret and are handed from file to file: none of them can be printed or serialized.
//! Those that one file keeps to itself say so there.

use runtime::never_shown;

never_shown!(
    crate::authz::Permit,
    crate::authz::TokenSource,
    crate::azure::Issued,
    crate::credentials::Credential,
    crate::credentials::Payload,
    crate::request::DockerConfigRequest,
    crate::request::RequestedIdentity,
    crate::service::Admitted,
);
