//! What the broker says when it hands nothing out. Reads answers; decides nothing.

use std::time::Duration;

use anyhow::Context as _;
use proto::Reason;
use tonic::Status;
use tonic_types::StatusExt as _;

/// An answer without a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// From the catalogue.
    pub(crate) reason: Reason,
    /// When to ask again, if the broker said so.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    /// The refusal that a question over gRPC ended with.
    ///
    /// # Errors
    /// It ended with something that no broker said: that ends a run.
    pub(crate) fn of(error: anyhow::Error) -> anyhow::Result<Self> {
        let said = error.downcast_ref::<Status>().and_then(|status| {
            let info = status.get_details_error_info()?;
            let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
            Some(Self {
                reason: Reason::from_wire(&info.reason)?,
                retry_after,
            })
        });
        match said {
            Some(refusal) => Ok(refusal),
            None => Err(error).context("no answer of the broker"),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn refusal_is_read_from_the_details_of_an_answer() {
        let mut details = ErrorDetails::new();
        details.set_error_info(
            Reason::Overloaded.as_wire(),
            proto::ERROR_DOMAIN,
            [] as [(String, String); 0],
        );
        details.set_retry_info(Some(Duration::from_secs(2)));
        let status = Status::with_error_details(Code::ResourceExhausted, "no", details);
        let error = Err::<(), _>(status).context("asked").unwrap_err();
        let expected = Refusal {
            reason: Reason::Overloaded,
            retry_after: Some(Duration::from_secs(2)),
        };
        assert_eq!(Refusal::of(error).unwrap(), expected);
    }

    #[test]
    fn refusal_that_no_broker_said_is_an_error() {
        assert!(Refusal::of(Status::unavailable("connection refused").into()).is_err());
        assert!(Refusal::of(anyhow!("nobody there")).is_err());
    }
}
