//! Every call to the API server goes through here: it gets a deadline, is counted, and its failure is read once.
//! Watches do not: they have their own idle timeout.

use std::{future::Future, time::Duration};

use kube::core::{Status, response::StatusCause};
use proto::Reason;
use runtime::error_chain::ErrorChain;

use crate::{metrics::Metrics, problem::Problem};

/// The longest wait for an answer. The client below repeats a call that the server throttles; that is included.
const DEADLINE: Duration = Duration::from_secs(15);

/// Makes calls.
#[derive(Debug, Clone)]
pub struct KubeCalls {
    metrics: Metrics,
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
    /// There is no answer, or one that does not decode.
    #[error("the call to the API server failed")]
    Call(#[source] kube::Error),
}

impl KubeCalls {
    /// Calls that are counted in `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics }
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
        let result = match tokio::time::timeout(DEADLINE, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => Err(KubeError::Refused(status)),
            Ok(Err(error)) => Err(KubeError::Call(error)),
            Err(_elapsed) => Err(KubeError::Deadline),
        };
        let code = result.as_ref().err().map_or(200, KubeError::code);
        self.metrics.kube_request(verb.as_str(), resource, code);
        result
    }
}

impl Verb {
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
            Self::Call(_) | Self::Deadline => None,
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

    /// The object, or its kind, does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// The object has changed since it was read.
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

    /// The problem for the status of a binding. `what` says what was tried: "write Secret acr-pull-web".
    pub fn into_problem(self, what: &str) -> Problem {
        tracing::warn!(error = %ErrorChain(&self), "cannot {what}");
        let Some(status) = self.status() else {
            return Problem::new(
                Reason::KubernetesUnreachable,
                format!("cannot {what}: the API server did not answer"),
            );
        };
        let immutable = status.code == 422
            && self
                .causes()
                .any(|cause| cause.message.contains("field is immutable"));
        // Fixed texts: those of the server hold counts and request ids that change from try to try.
        let (reason, why) = match status.code {
            403 if status.message.contains("exceeded quota") => {
                (Reason::KubernetesDenied, "a quota of the namespace is used up")
            }
            403 if self.is_denied_by_policy() => (Reason::KubernetesDenied, "an admission policy refuses it"),
            403 if self.is_namespace_ending() => (Reason::KubernetesDenied, "the namespace is being deleted"),
            403 => (Reason::KubernetesDenied, "the syncer's role does not allow it"),
            422 if immutable => (
                Reason::SecretConflict,
                "one exists with another type, or is marked immutable",
            ),
            400 | 422 => (
                Reason::KubernetesDenied,
                "the API server does not accept the object",
            ),
            404 => (Reason::KubernetesUnreachable, "it, or its namespace, is gone"),
            409 => (Reason::KubernetesUnreachable, "it was changed at the same time"),
            _ => (Reason::KubernetesUnreachable, "the API server failed"),
        };
        Problem::new(reason, format!("cannot {what}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusDetails;

    use super::*;

    fn problem(code: u16, message: &str, cause: &str) -> Problem {
        let cause = StatusCause {
            reason: String::new(),
            message: cause.to_owned(),
            field: String::new(),
        };
        let details = StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: vec![cause],
            retry_after_seconds: 0,
        };
        let status = Status::failure(message, "").with_code(code).with_details(details);
        KubeError::Refused(Box::new(status)).into_problem("write Secret acr-pull-web")
    }

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

    #[test]
    fn b18_kube_error_says_what_refused_without_the_servers_changing_text() {
        for (code, message, cause, reason, why) in [
            (
                403,
                "secrets \"x\" is forbidden: exceeded quota: q, used: secrets=7",
                "",
                Reason::KubernetesDenied,
                "quota",
            ),
            (
                403,
                "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: r",
                "",
                Reason::KubernetesDenied,
                "policy",
            ),
            (
                403,
                "User \"u\" cannot patch resource \"secrets\"",
                "",
                Reason::KubernetesDenied,
                "role",
            ),
            (
                403,
                "unable to create: namespace shop is being terminated",
                "",
                Reason::KubernetesDenied,
                "deleted",
            ),
            (
                422,
                "Secret is invalid",
                "Invalid value: field is immutable",
                Reason::SecretConflict,
                "another type",
            ),
            (
                422,
                "Secret is invalid",
                "Too long",
                Reason::KubernetesDenied,
                "accept",
            ),
            (409, "Conflict", "", Reason::KubernetesUnreachable, "changed"),
            (
                500,
                "etcdserver: request 4711 timed out",
                "",
                Reason::KubernetesUnreachable,
                "failed",
            ),
        ] {
            let problem = problem(code, message, cause);
            assert_eq!(problem.reason, reason, "{code} {message}");
            assert!(problem.message.contains(why), "{problem}");
            assert!(!problem.message.contains('7'), "{problem}");
        }
        assert_eq!(
            KubeError::Deadline.into_problem("x").reason,
            Reason::KubernetesUnreachable
        );
    }
}
