//! What a workload may ask for: itself. The binding's namespace, the ServiceAccounts and the subject token must all be
//! its own, and no others beside them; the binding's name is its own to choose. Pure.
//!
//! This is said before the policy is asked: whatever a grant allows a namespace, a workload of it gets for itself alone.

use crate::{
    authn::{Caller, ServiceAccount, Subject},
    request::DockerConfigRequest,
};

/// A workload asks for somebody else. Says what it may ask for; the caller knows its own name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a workload may ask for itself only: {field} must be {own}")]
pub struct NotItself {
    /// The first field of the request that names another.
    pub field: &'static str,
    /// What it must be.
    pub own: String,
}

/// Whether `caller` asks for itself. `subject` is the verified ServiceAccount of a federated request.
///
/// # Errors
/// The first field that names somebody else.
pub fn check(
    caller: &Caller,
    subject: Option<&Subject>,
    request: &DockerConfigRequest,
) -> Result<(), NotItself> {
    let sub = &caller.subject;
    let must_be = |field, own: String| Err(NotItself { field, own });
    let Some(own) = ServiceAccount::parse(sub) else {
        return must_be("the caller", "a ServiceAccount".to_owned());
    };
    if request.namespace != own.namespace {
        return must_be("binding.namespace", own.namespace.to_owned());
    }
    if !matches!(&*request.service_accounts, [only] if only == own.name) {
        return must_be("service_accounts", format!("{} and nothing else", own.name));
    }
    match subject {
        Some(subject) if subject.subject != *sub => must_be("federated.subject_token", format!("of {sub}")),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::v1::GetDockerConfigRequest;
    use serde_json::json;

    use super::*;
    use crate::test_scene::{CLIENT, REGISTRY, Shape, snapshot, token};

    const SUB: &str = "system:serviceaccount:web:app";

    fn caller(sub: &str) -> Caller {
        let live = snapshot(Shape::WHOLE);
        live.authenticator.caller(&token(sub)).unwrap()
    }

    fn request(namespace: &str, service_accounts: &[&str]) -> DockerConfigRequest {
        let message: GetDockerConfigRequest = serde_json::from_value(json!({
            "binding": {"namespace": namespace, "name": "any"},
            "serviceAccounts": service_accounts,
            "registry": REGISTRY,
            "brokerOwned": {"clientId": CLIENT},
        }))
        .unwrap();
        message.try_into().unwrap()
    }

    fn subject(sub: &str) -> Subject {
        let account = ServiceAccount::parse(sub).unwrap();
        Subject {
            subject: Arc::from(sub),
            namespace: account.namespace.into(),
            name: account.name.into(),
            audiences: Arc::from([]),
        }
    }

    #[test]
    fn workload_may_ask_for_itself() {
        let own = request("web", &["app"]);
        assert_eq!(check(&caller(SUB), None, &own), Ok(()));
        assert_eq!(check(&caller(SUB), Some(&subject(SUB)), &own), Ok(()));
    }

    #[test]
    fn workload_that_asks_for_another_is_told_what_it_may_ask_for() {
        for (request, shown, told) in [
            (
                request("data", &["app"]),
                None,
                "a workload may ask for itself only: binding.namespace must be web",
            ),
            (
                request("web", &["other"]),
                None,
                "a workload may ask for itself only: service_accounts must be app and nothing else",
            ),
            (
                request("web", &["app", "other"]),
                None,
                "a workload may ask for itself only: service_accounts must be app and nothing else",
            ),
            (
                request("web", &["app", "app"]),
                None,
                "a workload may ask for itself only: service_accounts must be app and nothing else",
            ),
            (
                request("web", &["app"]),
                Some(subject("system:serviceaccount:web:other")),
                "a workload may ask for itself only: federated.subject_token must be of system:serviceaccount:web:app",
            ),
        ] {
            let refused = check(&caller(SUB), shown.as_ref(), &request).unwrap_err();
            assert_eq!(refused.to_string(), told);
        }
    }

    #[test]
    fn caller_that_is_no_service_account_has_no_self() {
        assert!(check(&caller("admin"), None, &request("web", &["app"])).is_err());
    }
}
