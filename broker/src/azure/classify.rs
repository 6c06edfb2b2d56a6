//! What a failed call means: from [`UpstreamError`] to a reason of the catalogue, a stable public text, a time.
//!
//! Here is what is the same for all endpoints: no answer, an answer that makes no sense, an answer that asks for
//! patience, a call that was not made. What an endpoint says with a status and a code of its own is in the files below,
//! one exhaustive match for each. No text contains what a server wrote.

mod entra;
mod imds;
mod presented;
mod registry;

use std::borrow::Cow;

use proto::Reason;

use super::{
    gate::{Why, Withheld},
    refusal::Refusal,
    transport::{TlsFault, TransportError},
    upstream::UpstreamError,
};
use crate::error::CredentialError;
pub(super) use entra::entra;
pub(super) use imds::imds;
pub(super) use presented::Presented;
pub(super) use registry::{exchange, token};

/// Who was asked.
struct Party {
    /// In texts.
    name: Cow<'static, str>,
    /// The reason when it cannot be reached, or is not well.
    down: Reason,
    /// The reason when its name means nothing, or nothing that is allowed.
    nowhere: Reason,
    /// What an answer means that is the endpoint's own.
    refused: Box<dyn Fn(&Refusal) -> CredentialError>,
}

impl Party {
    fn classify(&self, error: &UpstreamError) -> CredentialError {
        match error {
            UpstreamError::Refused(refusal) => CredentialError {
                azure_request_id: refusal.request_id.clone(),
                ..self.answered(refusal)
            },
            UpstreamError::Transport(error) => self.unanswered(*error),
            UpstreamError::Malformed(what) => self.malformed(what),
            UpstreamError::Withheld(withheld) => self.withheld(withheld),
        }
    }

    fn answered(&self, refusal: &Refusal) -> CredentialError {
        let error = if refusal.asks_for_fewer() {
            self.throttled()
        } else if refusal.is_failure() {
            self.error(self.down, "failed")
        } else if (300..=399).contains(&refusal.status) {
            // It could carry a token elsewhere.
            self.error(
                Reason::UpstreamMalformed,
                "answered with a redirect, which is never followed",
            )
        } else {
            (self.refused)(refusal)
        };
        CredentialError {
            retry_after: refusal.retry_after.or(error.retry_after),
            ..error
        }
    }

    fn unanswered(&self, error: TransportError) -> CredentialError {
        let (reason, text) = match error {
            TransportError::NoSuchName => (self.nowhere, "does not resolve"),
            TransportError::ForbiddenAddress => {
                (self.nowhere, "resolves to an address that no token may go to")
            }
            TransportError::LookupFailed => (
                self.down,
                "could not be looked up: the name service of the broker does not answer",
            ),
            TransportError::Connect | TransportError::Broken => (self.down, "could not be reached"),
            TransportError::Timeout(_) => (self.down, "did not answer in time"),
            TransportError::Tls(fault) => (self.down, tls_text(fault)),
            TransportError::Oversized(_) => (
                Reason::UpstreamMalformed,
                "answered with more than any token answer has",
            ),
            TransportError::Request => (Reason::Internal, "could not be asked: the request cannot be sent"),
        };
        self.error(reason, text)
    }

    /// Remembered here, by host, and not by key: it says when to come back.
    fn withheld(&self, withheld: &Withheld) -> CredentialError {
        let error = match &withheld.why {
            Why::Paused => self.throttled(),
            // The same failure has the same text, whether this call met it or the one before.
            Why::CircuitOpen(last) | Why::RetryBudget(Some(last)) => self.classify(last),
            Why::NoPlace => self.error(Reason::Overloaded, "has too many calls in flight already"),
            Why::RetryBudget(None) => self.error(
                Reason::Overloaded,
                "is not asked a second time so soon by so many",
            ),
        };
        CredentialError {
            retry_after: Some(withheld.retry_after),
            azure_request_id: None,
            is_remembered: true,
            ..error
        }
    }

    fn throttled(&self) -> CredentialError {
        self.error(Reason::UpstreamThrottled, "asked for fewer requests")
    }

    fn malformed(&self, what: &str) -> CredentialError {
        CredentialError::new(
            Reason::UpstreamMalformed,
            format!("the answer of {} {what}", self.name),
        )
    }

    fn error(&self, reason: Reason, text: &str) -> CredentialError {
        CredentialError::new(reason, format!("{} {text}", self.name))
    }
}

/// Whose move it is differs from a host that is down, and from fault to fault.
fn tls_text(fault: TlsFault) -> &'static str {
    match fault {
        TlsFault::Untrusted => {
            "shows a certificate that the broker does not trust: if a proxy inspects TLS, its root belongs in \
             egress.caBundle"
        }
        TlsFault::WrongName => {
            "shows a certificate for another name: the broker's DNS, proxy or host overrides lead elsewhere"
        }
        TlsFault::Expired => {
            "shows a certificate that is not valid at this time: it must be renewed, or the broker's clock set"
        }
        TlsFault::OldVersion => {
            "offers no version of TLS from 1.2 on: whatever answers in its place must be updated"
        }
        TlsFault::Other => "could not complete the TLS handshake",
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
