//! Why a pass did not get where it wanted: one reason of the catalogue and one stable sentence.
//!
//! Stable means: the same situation gives the same text, without ids, times or numbers that change from try to try.
//! The text goes into the status, and a status that changes at each try would trigger the next try.

use std::time::Duration;

use client::BrokerError;
use proto::Reason;

/// What stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// From the catalogue.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// What cannot be done.
    pub stage: Stage,
    /// When to try again, if the other side said.
    pub retry_after: Option<Duration>,
    /// What Azure's support asks for. Another one each time: the status keeps that of the first attempt.
    pub azure_request_id: Option<String>,
}

/// What of a credential's way cannot be done. The link has problems of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// To obtain it.
    Issue,
    /// To read or write its Secret.
    Secret,
}

impl Problem {
    /// A problem for which our own schedule decides when to try again.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            stage: if matches!(reason, Reason::SecretConflict | Reason::Contested) {
                Stage::Secret
            } else {
                Stage::Issue
            },
            reason,
            message: message.into(),
            retry_after: None,
            azure_request_id: None,
        }
    }

    /// The same, in the way of reading or writing the Secret.
    #[must_use]
    pub fn of_the_secret(self) -> Self {
        Self {
            stage: Stage::Secret,
            ..self
        }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        Self {
            reason: error.reason,
            message: error.message,
            stage: Stage::Issue,
            retry_after: error.retry_after,
            azure_request_id: error.azure_request_id,
        }
    }
}
