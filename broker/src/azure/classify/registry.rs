//! What a registry says at its two token endpoints. Both answer 401 for nearly everything, so the endpoint decides.

use proto::{Reason, types::RegistryHost};

use super::{Party, Refusal, UpstreamError};
use crate::{azure::refusal::Detail, error::CredentialError};

/// At `/oauth2/exchange`.
pub(in crate::azure) fn exchange(error: &UpstreamError, host: &RegistryHost) -> CredentialError {
    party(host, |refusal, name| match refusal.status {
        400 | 401 => CredentialError::new(
            Reason::RegistryUnauthorized,
            format!("{name} knows no role of the identity (a new role takes up to 10 minutes)"),
        ),
        403 if refusal.detail == Some(Detail::Permissions) => CredentialError::new(
            Reason::RegistryUnauthorized,
            format!("{name} found no permission of the identity (a new role takes up to 10 minutes)"),
        ),
        status => elsewhere(status, name),
    })
    .classify(error)
}

/// At `/oauth2/token`. A token that died early, after a switch of the registry's mode, is refused with 401 as well.
pub(in crate::azure) fn token(error: &UpstreamError, host: &RegistryHost) -> CredentialError {
    party(host, |refusal, name| match refusal.status {
        // 400 has no body, and means a scope that is none to it.
        400 | 401 => CredentialError::new(Reason::ScopeRejected, format!("{name} did not grant the scope")),
        403 if refusal.detail == Some(Detail::Permissions) => CredentialError::new(
            Reason::ScopeRejected,
            format!("{name} found no permission of the identity for the scope"),
        ),
        status => elsewhere(status, name),
    })
    .classify(error)
}

fn party(host: &RegistryHost, refused: fn(&Refusal, &str) -> CredentialError) -> Party {
    let name = format!("registry {host}");
    Party {
        name: name.clone().into(),
        down: Reason::RegistryUnreachable,
        nowhere: Reason::RegistryNotFound,
        refused: Box::new(move |refusal| refused(refusal, &name)),
    }
}

/// What means the same at both endpoints.
fn elsewhere(status: u16, name: &str) -> CredentialError {
    match status {
        403 => CredentialError::new(
            Reason::RegistryForbidden,
            format!("{name} refuses the broker's address: its network rules must admit it"),
        ),
        404 => CredentialError::new(Reason::RegistryNotFound, format!("{name} has no token endpoint")),
        status => CredentialError::new(
            Reason::UpstreamMalformed,
            format!("{name} answered with status {status}"),
        ),
    }
}
