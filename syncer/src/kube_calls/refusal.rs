//! What a refusal of the API server means for a binding: a reason of the catalogue and a sentence that stays the same
//! while the situation does. Pure, but for a line in the log with the server's own words, less what may quote a Secret.
//!
//! Of the server's text only names are kept: of the quota, of the policy, of the webhook. The rest holds counts and
//! ids that change from try to try, and what a policy's author lets it say may quote the object, which is a Secret.

use kube::core::Status;
use proto::Reason;
use runtime::error_chain::ErrorChain;

use super::KubeError;
use crate::problem::Problem;

/// The longest name of an object in Kubernetes.
const LONGEST_NAME: usize = 253;
/// How the API server begins to say who refused, and what comes right before what that one says.
const POLICY: &str = "ValidatingAdmissionPolicy '";
const WEBHOOK: &str = "admission webhook \"";
const DENIED_BY_POLICY: &str = "denied request";
const DENIED_BY_WEBHOOK: &str = "denied the request";

impl KubeError {
    /// The problem for the status of a binding. `what` says what was tried: "write Secret acr-pull-web".
    pub fn into_problem(self, what: &str) -> Problem {
        tracing::warn!(error = %ErrorChain(&self), "cannot {what}");
        self.problem(what)
    }

    /// The same, where somebody else says it in the log.
    pub fn problem(&self, what: &str) -> Problem {
        let (reason, why) = self.status().map_or_else(
            || {
                (
                    Reason::KubernetesUnreachable,
                    "the API server did not answer".to_owned(),
                )
            },
            |status| self.judge(status),
        );
        Problem {
            retry_after: self.retry_after(),
            ..Problem::new(reason, format!("cannot {what}: {why}"))
        }
    }

    fn judge(&self, status: &Status) -> (Reason, String) {
        let text = status.message.as_str();
        if let Some(why) = admission(text) {
            return (Reason::AdmissionDenied, why);
        }
        let immutable = status
            .details
            .iter()
            .flat_map(|details| &details.causes)
            .any(|cause| cause.message.contains("field is immutable"));
        let (reason, why) = match status.code {
            403 if text.contains("exceeded quota") => {
                let quota = named(text, "exceeded quota: ", ',').map_or_else(
                    || "a ResourceQuota".to_owned(),
                    |name| format!("ResourceQuota {name}"),
                );
                return (
                    Reason::QuotaExceeded,
                    format!("{quota} of the namespace is used up"),
                );
            }
            // A quota that was made a moment ago.
            403 if text.contains("status unknown for quota") => (
                Reason::KubernetesUnreachable,
                "a quota of the namespace is not in effect yet",
            ),
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
            401 => (
                Reason::KubernetesUnreachable,
                "the API server does not accept the syncer's token",
            ),
            404 => (Reason::KubernetesUnreachable, "it, or its namespace, is gone"),
            409 => (Reason::KubernetesUnreachable, "it was changed at the same time"),
            429 => (Reason::KubernetesUnreachable, "the API server asks to wait"),
            500 if text.contains("failed calling webhook") => (
                Reason::KubernetesUnreachable,
                "an admission webhook of the cluster did not answer",
            ),
            _ => (Reason::KubernetesUnreachable, "the API server failed"),
        };
        (reason, why.to_owned())
    }
}

/// The refusal without what the author of a policy or a webhook lets it say: that may quote the object, which may be a
/// Secret, and errors get into logs and traces.
pub(super) fn unquoted(mut status: Box<Status>) -> Box<Status> {
    let text = &status.message;
    if text.contains(POLICY) || text.contains(WEBHOOK) {
        let ends = [DENIED_BY_POLICY, DENIED_BY_WEBHOOK].map(|end| Some(text.find(end)? + end.len()));
        let end = ends.into_iter().flatten().min().unwrap_or_default();
        let kept = text.get(..end).filter(|kept| !kept.is_empty());
        let kept = String::from(kept.unwrap_or("an admission plugin refused or failed"));
        status.message = kept;
        status.details = None;
    }
    status
}

/// Who refused, if it was an admission plugin of the cluster's own choice. The code does not tell: a policy answers 422
/// unless it names a reason, and a webhook whatever it likes.
fn admission(text: &str) -> Option<String> {
    if text.contains(POLICY) && text.contains(DENIED_BY_POLICY) {
        let name = named(text, POLICY, '\'');
        return Some(name.map_or_else(
            || "a ValidatingAdmissionPolicy refuses it".to_owned(),
            |name| format!("ValidatingAdmissionPolicy {name} refuses it"),
        ));
    }
    if text.contains(WEBHOOK) && text.contains(DENIED_BY_WEBHOOK) {
        let name = named(text, WEBHOOK, '"');
        return Some(name.map_or_else(
            || "an admission webhook refuses it".to_owned(),
            |name| format!("admission webhook {name} refuses it"),
        ));
    }
    None
}

/// The name between `before` and `after`. Nothing else gets through.
fn named<'a>(text: &'a str, before: &str, after: char) -> Option<&'a str> {
    let (_before, rest) = text.split_once(before)?;
    let (name, _after) = rest.split_once(after)?;
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'_'));
    (is_name && !name.is_empty() && name.len() <= LONGEST_NAME).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    fn problem(code: u16, message: &str, cause: &str) -> Problem {
        hinted(code, message, cause, 0)
    }

    /// The same from a server that names a time.
    fn hinted(code: u16, message: &str, cause: &str, retry_after_seconds: u32) -> Problem {
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
            retry_after_seconds,
        };
        let status = Status::failure(message, "").with_code(code).with_details(details);
        KubeError::Refused(Box::new(status)).into_problem("write Secret acr-pull-web")
    }

    /// What the server says, and what is told of it.
    const REFUSALS: [(u16, &str, Reason, &str); 14] = [
        (
            403,
            "secrets \"x\" is forbidden: exceeded quota: few-secrets, requested: secrets=7, used: secrets=7",
            Reason::QuotaExceeded,
            "ResourceQuota few-secrets of the namespace is used up",
        ),
        (
            403,
            "exceeded quota: 7 or\nso, requested: secrets=7",
            Reason::QuotaExceeded,
            "a ResourceQuota of the namespace is used up",
        ),
        (
            403,
            "status unknown for quota: few-secrets, resources: secrets",
            Reason::KubernetesUnreachable,
            "a quota of the namespace is not in effect yet",
        ),
        (
            403,
            "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: r7",
            Reason::AdmissionDenied,
            "ValidatingAdmissionPolicy p refuses it",
        ),
        (
            422,
            "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: 7",
            Reason::AdmissionDenied,
            "ValidatingAdmissionPolicy p refuses it",
        ),
        (
            400,
            "admission webhook \"validate.kyverno.svc-fail\" denied the request: 7",
            Reason::AdmissionDenied,
            "admission webhook validate.kyverno.svc-fail refuses it",
        ),
        (
            500,
            "failed calling webhook \"w\": 7",
            Reason::KubernetesUnreachable,
            "an admission webhook of the cluster did not answer",
        ),
        (
            403,
            "User \"u7\" cannot patch resource \"secrets\"",
            Reason::KubernetesDenied,
            "the syncer's role does not allow it",
        ),
        (
            403,
            "namespace shop7 is being terminated",
            Reason::KubernetesDenied,
            "the namespace is being deleted",
        ),
        (
            422,
            "Too long: 7",
            Reason::KubernetesDenied,
            "the API server does not accept the object",
        ),
        (
            401,
            "Unauthorized",
            Reason::KubernetesUnreachable,
            "the API server does not accept the syncer's token",
        ),
        (
            409,
            "Conflict 7",
            Reason::KubernetesUnreachable,
            "it was changed at the same time",
        ),
        (
            429,
            "Too many requests, please try again later (7)",
            Reason::KubernetesUnreachable,
            "the API server asks to wait",
        ),
        (
            500,
            "etcdserver: request 4711 timed out",
            Reason::KubernetesUnreachable,
            "the API server failed",
        ),
    ];

    #[test]
    fn l1_refusal_keeps_nothing_of_what_a_policy_or_webhook_says() {
        for (text, kept) in [
            (
                "secrets \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: holds eyJhdXRo",
                "secrets \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request",
            ),
            (
                "admission webhook \"w.example\" denied the request: eyJhdXRo",
                "admission webhook \"w.example\" denied the request",
            ),
            (
                "ValidatingAdmissionPolicy 'p' failed with eyJhdXRo",
                "an admission plugin refused or failed",
            ),
            (
                "User \"u\" cannot patch resource",
                "User \"u\" cannot patch resource",
            ),
        ] {
            let status = unquoted(Box::new(Status::failure(text, "").with_code(403)));
            assert_eq!(status.message, kept);
        }
    }

    #[test]
    fn b18_refusal_says_who_refused_without_the_servers_changing_text() {
        for (code, message, reason, why) in REFUSALS {
            let problem = problem(code, message, "");
            assert_eq!(problem.reason, reason, "{code} {message}");
            assert_eq!(
                problem.message,
                format!("cannot write Secret acr-pull-web: {why}")
            );
        }
        let immutable = problem(422, "Secret is invalid", "Invalid value: field is immutable");
        assert_eq!(immutable.reason, Reason::SecretConflict);
        let silent = KubeError::Deadline.into_problem("write Secret acr-pull-web");
        assert_eq!(silent.reason, Reason::KubernetesUnreachable);
        assert!(
            silent.message.ends_with("the API server did not answer"),
            "{silent}"
        );
    }

    #[test]
    fn refusal_of_a_server_that_throttles_says_when_to_try_again() {
        let after = |code, seconds| hinted(code, "storage is (re)initializing", "", seconds).retry_after;
        for code in [429, 503] {
            assert_eq!(after(code, 7), Some(Duration::from_secs(7)));
        }
        assert_eq!(
            after(429, 31_536_000),
            Some(Duration::from_secs(60)),
            "not a year"
        );
        assert_eq!(after(429, 0), None, "our own schedule");
        assert_eq!(after(403, 7), None, "waiting does not help");
    }

    #[test]
    fn b18_refusal_of_a_policy_quotes_nothing_that_the_policy_says() {
        let text = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: eyJhbGciOiJSUzI1NiJ9";
        assert!(!problem(403, text, "").message.contains("eyJ"));
        let odd = "ValidatingAdmissionPolicy 'p\"{secret}' with binding 'b' denied request: no";
        assert!(!problem(403, odd, "").message.contains("secret}"));
    }
}
