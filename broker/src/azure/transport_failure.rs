//! What a failed request means: from a chain of causes, which libraries nest as they like, to one [`TransportError`].
//!
//! Nothing of the causes' texts is kept. They print URLs, which for the metadata service name identities, and parts of
//! what a peer sent.

use std::{error::Error as StdError, io};

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::{
    egress::ResolveError,
    transport::{Stage, TlsFault, TransportError},
};

/// The one word for why a request failed.
pub(super) fn failure(error: &reqwest::Error) -> TransportError {
    if let Some(known) = causes(error).find_map(known_cause) {
        return known;
    }
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => TransportError::Timeout(Stage::Connect),
        (true, false) => TransportError::Connect,
        (false, true) => TransportError::Timeout(Stage::Headers),
        (false, false) if error.is_builder() => TransportError::Request,
        (false, false) => TransportError::Broken,
    }
}

/// The error and everything below it.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |cause| next_cause(*cause))
}

/// An I/O error hides what it wraps: its `source` is the source of that.
fn next_cause<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => cause.source(),
    }
}

fn known_cause(cause: &(dyn StdError + 'static)) -> Option<TransportError> {
    if let Some(error) = cause.downcast_ref::<ResolveError>() {
        return Some(match error {
            ResolveError::NoSuchName => TransportError::NoSuchName,
            ResolveError::Lookup(_) => TransportError::LookupFailed,
            ResolveError::Forbidden => TransportError::ForbiddenAddress,
        });
    }
    cause
        .downcast_ref::<TlsError>()
        .map(|error| TransportError::Tls(tls_fault(error)))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls adds variants in minor versions; what is not told apart here is Other"
)]
fn tls_fault(error: &TlsError) -> TlsFault {
    match error {
        TlsError::InvalidCertificate(certificate) => match certificate {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFault::WrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => TlsFault::Expired,
            // No known issuer, revoked, of a kind that is not accepted.
            _ => TlsFault::Untrusted,
        },
        TlsError::PeerIncompatible(_) | TlsError::AlertReceived(AlertDescription::ProtocolVersion) => {
            TlsFault::OldVersion
        }
        _ => TlsFault::Other,
    }
}
