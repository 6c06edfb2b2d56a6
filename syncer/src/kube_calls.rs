//! Every call to the API server goes through here: it gets a deadline, is counted, and its failure is read once; and
//! a write is made only as long as this process may. Watches do not: they have their own idle timeout. What a refusal
//! means for a binding is said in `kube_calls::refusal`.

mod refusal;

use std::{future::Future, time::Duration};

use kube::core::{Status, response::StatusCause};

use crate::{kube_client, leadership::Authority, metrics::Metrics};

/// The longest wait for an answer. The client below repeats a call that the server throttles, for 5 s at most; that is
/// included.
const DEADLINE: Duration = Duration::from_secs(15);

/// Makes calls.
#[derive(Debug, Clone)]
pub struct KubeCalls {
    metrics: Metrics,
    authority: Option<Authority>,
}

/// What a call does; a label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the verbs of Kubernetes")]
pub enum Verb {
    Get,
    List,
    Create,
    Patch,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// No answer in time.
    #[error("the API server did not answer within {} s", DEADLINE.as_secs())]
    Deadline,
    /// The server refused or failed. Its text names objects and users, for the log and not for a status.
    #[error("the API server answered {}: {}", .0.code, .0.message)]
    Refused(Box<Status>),
    /// Another process may write by now.
    #[error("this process is not the leader, or not any more")]
    NotLeader,
    /// There is no answer, or one that does not decode.
    #[error("the call to the API server failed")]
    Call(#[source] kube::Error),
}

impl KubeCalls {
    /// Calls that are counted in `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            authority: None,
        }
    }

    /// The same, whose writes need the authority: none begins without it, and one that is under way is dropped when
    /// it ends, also one that the client below is about to repeat.
    #[must_use]
    pub fn with_authority(self, authority: Authority) -> Self {
        Self {
            authority: Some(authority),
            ..self
        }
    }

    /// Makes one call on `resource`.
    ///
    /// # Errors
    /// The call failed or took too long.
    pub async fn call<T>(
        &self,
        verb: Verb,
        resource: &'static str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, KubeError> {
        let call = tokio::time::timeout(DEADLINE, call);
        let answer = match &self.authority {
            Some(authority) if verb.is_write() => authority.during(call).await.ok_or(KubeError::NotLeader)?,
            Some(_) | None => call.await,
        };
        let result = match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => Err(KubeError::Refused(refusal::unquoted(status))),
            Ok(Err(error)) => Err(KubeError::Call(error)),
            Err(_elapsed) => Err(KubeError::Deadline),
        };
        let code = result.as_ref().err().map_or(200, KubeError::code);
        self.metrics.kube_request(verb.as_str(), resource, code);
        result
    }
}

impl Verb {
    /// Whether it may change something. Whatever is not known to be a read may.
    const fn is_write(self) -> bool {
        match self {
            Self::Get | Self::List => false,
            Self::Create | Self::Patch => true,
        }
    }

    /// The name in RBAC rules and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Patch => "patch",
        }
    }
}

impl KubeError {
    fn status(&self) -> Option<&Status> {
        match self {
            Self::Refused(status) => Some(status),
            Self::Call(_) | Self::Deadline | Self::NotLeader => None,
        }
    }

    fn causes(&self) -> impl Iterator<Item = &StatusCause> {
        let details = self.status().and_then(|status| status.details.as_ref());
        details.into_iter().flat_map(|details| &details.causes)
    }

    /// The HTTP status, or 0 without an answer.
    pub fn code(&self) -> u16 {
        self.status().map_or(0, |status| status.code)
    }

    /// When to try again, if the server throttles and said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.status().and_then(kube_client::told)
    }

    /// The object, or its kind, does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// The object has changed since it was read, or exists where it should not.
    pub fn is_conflict(&self) -> bool {
        self.code() == 409
    }

    /// An apply without force met fields that somebody else wrote.
    pub fn is_field_conflict(&self) -> bool {
        self.code() == 409 && self.causes().any(|cause| cause.reason == "FieldManagerConflict")
    }

    /// An admission policy refuses it.
    pub fn is_denied_by_policy(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == 403 && status.message.contains("ValidatingAdmissionPolicy"))
    }

    /// The object has another value in this field, which cannot be changed.
    pub fn is_immutable(&self, field: &str) -> bool {
        self.code() == 422
            && self
                .causes()
                .any(|cause| cause.field == field && cause.message.contains("field is immutable"))
    }

    /// Nothing new may be created, because the namespace is being deleted.
    pub fn is_namespace_ending(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == 403 && status.message.contains("being terminated"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use runtime::SystemClock;

    use super::*;

    #[test]
    fn kube_error_of_an_apply_tells_a_conflict_of_fields_a_policy_and_an_immutable_field_apart() {
        let error = |code: u16, message: &str, [reason, field, text]: [&str; 3]| {
            let cause = StatusCause {
                reason: reason.to_owned(),
                message: text.to_owned(),
                field: field.to_owned(),
            };
            let status: Status = serde_json::from_value(serde_json::json!({
                "status": "Failure", "message": message, "code": code, "details": {"causes": [cause]},
            }))
            .unwrap();
            KubeError::Refused(Box::new(status))
        };
        let conflict = error(
            409,
            "conflict",
            ["FieldManagerConflict", ".type", "conflict with \"kubectl\""],
        );
        let stale = error(409, "the object has been modified", ["", "", ""]);
        let policy = error(
            403,
            "ValidatingAdmissionPolicy 'p' with binding 'b' denied request",
            ["", "", ""],
        );
        let role = error(403, "User cannot patch resource", ["", "", ""]);
        let other_type = error(
            422,
            "invalid",
            ["FieldValueInvalid", "type", "Invalid value: field is immutable"],
        );
        let frozen = error(
            422,
            "invalid",
            ["FieldValueForbidden", "data", "field is immutable when set"],
        );
        let all = [&conflict, &stale, &policy, &role, &other_type, &frozen];
        assert_eq!(
            all.map(KubeError::is_field_conflict),
            [true, false, false, false, false, false]
        );
        assert_eq!(
            all.map(KubeError::is_denied_by_policy),
            [false, false, true, false, false, false]
        );
        assert_eq!(
            all.map(|error| error.is_immutable("type")),
            [false, false, false, false, true, false]
        );
    }

    #[tokio::test]
    async fn kube_calls_of_a_process_that_is_not_the_leader_read_and_do_not_write() {
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let authority = Authority::to_be_given(Arc::new(SystemClock));
        let calls = KubeCalls::new(metrics).with_authority(authority.clone());
        let made = async |verb| calls.call(verb, "secrets", async { Ok(()) }).await;
        for verb in [Verb::Create, Verb::Patch] {
            assert!(matches!(made(verb).await, Err(KubeError::NotLeader)), "{verb:?}");
        }
        for verb in [Verb::Get, Verb::List] {
            assert!(made(verb).await.is_ok(), "{verb:?}");
        }
        authority.give_until(Duration::MAX);
        for verb in [Verb::Create, Verb::Patch] {
            assert!(made(verb).await.is_ok(), "{verb:?}");
        }
    }
}
