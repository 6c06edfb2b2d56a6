//! What a record has of calls that no scene brings about.

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use proto::v1::GetDockerConfigRequest;

use crate::{
    audit::{EndedCall, facts::Facts, test_log},
    authz::Denied,
    config::AuditConfig,
    metrics::Outcome,
    service::*,
    test_scene::{WORKLOAD, federated_request, subject_token},
};

struct Opened {
    audit: Audit,
    log: test_log::TestLog,
    record: Record,
}

/// A call for a federated identity that names no tenant.
fn open() -> Opened {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let (audit, log) = test_log::audit(AuditConfig::default(), &mut registry);
    let mut message = federated_request(&subject_token("east", WORKLOAD));
    message["federated"].as_object_mut().unwrap().remove("tenantId");
    let message: GetDockerConfigRequest = serde_json::from_value(message).unwrap();
    let facts = Facts {
        request: Some(Arc::new(DockerConfigRequest::try_from(message).unwrap())),
        ..Facts::default()
    };
    let record = Record::open(
        metrics,
        audit.clone(),
        WireFormat::Http,
        Call::GetDockerConfig,
        facts,
    );
    Opened { audit, log, record }
}

#[tokio::test]
async fn o1_tenant_that_a_cluster_may_not_use_is_recorded_though_the_request_names_none() {
    let Opened { audit, log, record } = open();
    let default = "22222222-2222-2222-2222-222222222222";
    let denied = Denied::TenantCeiling(default.parse().unwrap());
    record.deny(&denied, None);
    record.fail(&denied.into());
    record.write().await;
    audit.written().await;
    let line = log.lines().pop().unwrap();
    assert_eq!(line["reason"], "TENANT_NOT_ALLOWED");
    assert_eq!(line["request"]["identity"]["tenant"], default);
}

#[tokio::test]
async fn o1_record_that_nobody_waits_to_write_any_more_is_made_once() {
    let Opened { audit, log, record } = open();
    audit.written().await;
    log.hold();
    // One with the writer, the rest fills the queue.
    for _ in 0..20_000 {
        let begun = audit.begin_call();
        let ended = EndedCall {
            wire: WireFormat::Http,
            call: Call::GetDockerConfig,
            outcome: Outcome::Answered,
            took: Duration::ZERO,
        };
        audit.put_now(audit.line(&begun, &ended, &Facts::default()).unwrap());
    }
    record.fail(&CredentialError::titled(Reason::PolicyDenied));
    {
        let writing = std::pin::pin!(record.write());
        assert!(futures::poll!(writing).is_pending(), "there is no room");
    }
    log.release();
    audit.written().await;
    drop(record);
    audit.written().await;
    let denied = |line: &&serde_json::Value| line["reason"] == "POLICY_DENIED";
    assert_eq!(log.lines().iter().filter(denied).count(), 0, "it was lost, once");
}
