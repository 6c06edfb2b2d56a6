//! What the outcome of an attempt means for the call. Pure.

use std::error::Error as _;

use proto::Reason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{connection::SendError, error::reason_of};

/// How a gRPC server says when a call may be repeated, or with a negative number that it may not (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What a failed attempt means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An answer to the question. Another replica would say the same, or was forbidden to be asked.
    Definitive,
    /// The replica cannot answer and another may.
    Elsewhere,
    /// The connection or its stream broke after the request was on its way. All calls are idempotent, and whatever worked
    /// on this one is gone with it.
    Lost,
    /// The connection was being closed and the request never left.
    Unsent,
}

impl Verdict {
    pub(crate) fn of(status: &Status) -> Self {
        // What came over the wire as an answer has no source; what the transport reports has.
        if let Some(source) = status.source() {
            return match source.downcast_ref::<SendError>() {
                Some(SendError::Unsent(_)) => Self::Unsent,
                Some(SendError::Broken(_)) | None => Self::Lost,
            };
        }
        let may_differ = match reason_of(status) {
            // What one replica lacks and another may have: the cluster's keys, room, a log that takes records. All else is the same everywhere; above all
            // what Azure said, which would only be asked twice. A time to wait is for the replica that said it.
            Some(reason) => matches!(
                reason,
                Reason::ClusterKeysUnavailable | Reason::Overloaded | Reason::AuditUnavailable
            ),
            // Not an answer of ours: a proxy, or a server that is shutting down.
            None => {
                !asks_for_patience(status)
                    && matches!(
                        status.code(),
                        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
                    )
            }
        };
        if may_differ {
            Self::Elsewhere
        } else {
            Self::Definitive
        }
    }
}

/// The one of two failures that helps more to understand what is wrong: an answer rather than a replica that could not
/// answer, and that rather than a connection that broke.
pub(crate) fn more_telling(first: Status, second: Status) -> Status {
    let rank = |status: &Status| match (reason_of(status), Verdict::of(status)) {
        (Some(_), Verdict::Definitive) => 3,
        (Some(_), Verdict::Elsewhere | Verdict::Lost | Verdict::Unsent) => 2,
        (None, Verdict::Definitive) => 1,
        (None, Verdict::Elsewhere | Verdict::Lost | Verdict::Unsent) => 0,
    };
    if rank(&second) > rank(&first) {
        second
    } else {
        first
    }
}

fn asks_for_patience(status: &Status) -> bool {
    status.metadata().contains_key(PUSHBACK)
        || status
            .get_details_retry_info()
            .is_some_and(|info| info.retry_delay.is_some())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    fn said(reason: Reason, wait: Option<Duration>) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(
            reason.as_wire(),
            proto::ERROR_DOMAIN,
            std::collections::HashMap::<String, String>::new(),
        );
        if wait.is_some() {
            details.set_retry_info(wait);
        }
        Status::with_error_details(reason.grpc_code(), reason.title(), details)
    }

    fn broken() -> Status {
        Status::from_error(Box::new(std::io::Error::from(
            std::io::ErrorKind::ConnectionReset,
        )))
    }

    #[test]
    fn verdict_on_an_answer_of_the_broker_is_definitive_unless_replicas_may_differ() {
        for reason in Reason::ALL {
            let of_one_replica = [
                Reason::ClusterKeysUnavailable,
                Reason::Overloaded,
                Reason::AuditUnavailable,
            ];
            let expected = if of_one_replica.contains(reason) {
                Verdict::Elsewhere
            } else {
                Verdict::Definitive
            };
            assert_eq!(Verdict::of(&said(*reason, None)), expected, "{reason:?}");
        }
    }

    #[test]
    fn verdict_on_a_replica_that_says_when_it_will_have_room_is_to_ask_another() {
        let wait = Some(Duration::from_secs(3));
        for (reason, verdict) in [
            (Reason::Overloaded, Verdict::Elsewhere),
            (Reason::ClusterKeysUnavailable, Verdict::Elsewhere),
            (Reason::UpstreamThrottled, Verdict::Definitive),
        ] {
            let mut status = said(reason, wait);
            status.metadata_mut().insert(PUSHBACK, "3000".parse().unwrap());
            assert_eq!(Verdict::of(&status), verdict, "{reason:?}");
        }
    }

    #[test]
    fn verdict_on_a_stranger_that_asks_for_patience_is_definitive() {
        let mut pushed_back = Status::unavailable("later");
        assert_eq!(Verdict::of(&pushed_back), Verdict::Elsewhere);
        pushed_back
            .metadata_mut()
            .insert(PUSHBACK, "5000".parse().unwrap());
        assert_eq!(Verdict::of(&pushed_back), Verdict::Definitive);
    }

    #[test]
    fn verdict_on_the_transport_is_lost() {
        assert_eq!(Verdict::of(&broken()), Verdict::Lost);
        assert_eq!(Verdict::of(&Status::unavailable("draining")), Verdict::Elsewhere);
        assert_eq!(
            Verdict::of(&Status::deadline_exceeded("late")),
            Verdict::Definitive
        );
    }

    #[test]
    fn error_of_two_failed_attempts_is_the_more_telling_one() {
        let texts = |first: Status, second: Status| more_telling(first, second).message().to_owned();
        let denied = || said(Reason::PolicyDenied, None);
        let overloaded = || said(Reason::Overloaded, None);
        let late = || Status::deadline_exceeded("late");
        for (first, second, expected) in [
            (broken(), denied(), denied()),
            (denied(), broken(), denied()),
            (overloaded(), denied(), denied()),
            (overloaded(), broken(), overloaded()),
            (broken(), late(), late()),
            (late(), overloaded(), overloaded()),
        ] {
            assert_eq!(texts(first, second), expected.message());
        }
    }
}
