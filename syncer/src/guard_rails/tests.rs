//! What answers of an API server say about the rights.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use kube::{client::Body, core::Status};
use prometheus_client::registry::Registry;

use super::*;

const BY_A_POLICY: &str =
    "secrets \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no";
const BY_THE_ROLE: &str = "serviceaccounts \"default\" is forbidden: User \"syncer\" cannot patch resource";

fn status(code: u16, message: &str) -> Status {
    Status::failure(message, "").with_code(code)
}

fn refused(code: u16, message: &str) -> Result<(), KubeError> {
    Err(KubeError::Refused(Box::new(status(code, message))))
}

#[test]
fn guard_rails_only_a_policy_says_that_a_right_is_bounded() {
    assert_eq!(judge(&Ok(())), Finding::Unbounded);
    assert_eq!(judge(&refused(403, BY_A_POLICY)), Finding::Bounded);
    // Absent objects, a role that is missing in this namespace, a server that fails or is silent: that says nothing, and
    // must neither alarm nor reassure.
    for unclear in [
        refused(403, BY_THE_ROLE),
        refused(404, ""),
        refused(409, ""),
        refused(500, ""),
        Err(KubeError::Deadline),
    ] {
        assert_eq!(judge(&unclear), Finding::Unknown);
    }
}

/// What is found where the namespaces answer like this, and which of them were asked about ServiceAccounts.
async fn found(answers: &'static [(&'static str, u16, &'static str)]) -> (Finding, Vec<String>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let namespace = request.uri().path().split('/').nth(4).unwrap_or_default();
        log.lock().unwrap().push(namespace.to_owned());
        let (_name, code, message) = answers.iter().find(|(name, ..)| *name == namespace).unwrap();
        let answer = serde_json::to_vec(&status(*code, message)).unwrap();
        let response = Response::builder().status(*code).body(Body::from(answer));
        async move { Ok::<_, Infallible>(response.unwrap()) }
    });
    let metrics = Metrics::register(&mut Registry::default());
    let calls = KubeCalls::new(metrics.clone());
    let names = answers.iter().map(|(name, ..)| *name);
    let guard_rails = GuardRails::new(Client::new(service, "process"), calls, metrics).in_namespaces(names);
    let finding = guard_rails.look(Right::ServiceAccounts).await;
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    (finding, asked)
}

#[tokio::test]
async fn guard_rails_of_several_namespaces_ask_until_one_says_something() {
    let (finding, asked) = found(&[
        ("no-role", 403, BY_THE_ROLE),
        ("gone", 404, ""),
        ("bounded", 403, BY_A_POLICY),
        ("never", 403, BY_THE_ROLE),
    ])
    .await;
    assert_eq!(finding, Finding::Bounded);
    assert_eq!(asked, ["no-role", "gone", "bounded"]);

    let (finding, _asked) = found(&[("a", 403, BY_THE_ROLE), ("b", 403, BY_THE_ROLE)]).await;
    assert_eq!(finding, Finding::Unknown);

    let (finding, asked) = found(&[("a", 500, ""), ("b", 403, BY_A_POLICY)]).await;
    assert_eq!(
        finding,
        Finding::Unknown,
        "the server fails, so it is not asked again"
    );
    assert_eq!(asked, ["a"]);
}
