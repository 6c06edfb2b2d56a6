//! The Lease at the API server: reads and writes it. Decides nothing.
//!
//! Every write but the first is a merge patch that names the version it was decided on, so that of two candidates one
//! succeeds; the first is a create, for the same reason.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::claim::Record;
use crate::{
    kube_calls::{KubeCalls, KubeError, Verb},
    pull_secret::FIELD_MANAGER,
};

const RESOURCE: &str = "leases";

/// Which Lease, and where.
#[derive(Debug, Clone)]
pub struct LeaseName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The Lease, as one process writes it.
pub(super) struct LeaseObject {
    api: Api<Lease>,
    name: String,
    identity: String,
    lease: Duration,
    calls: KubeCalls,
}

impl LeaseObject {
    /// `calls` must not depend on who holds the Lease.
    pub(super) fn new(
        client: Client,
        LeaseName { namespace, name }: LeaseName,
        identity: String,
        lease: Duration,
        calls: KubeCalls,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &namespace),
            name,
            identity,
            lease,
            calls,
        }
    }

    /// None if there is no such Lease.
    pub(super) async fn read(&self) -> Result<Option<Record>, KubeError> {
        let call = self.api.get_opt(&self.name);
        let lease = self.calls.call(Verb::Get, RESOURCE, call).await?;
        Ok(lease.map(record))
    }

    /// Creates it, held by this process.
    pub(super) async fn create(&self, now: Timestamp) -> Result<Record, KubeError> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(self.seconds()),
                acquire_time: Some(MicroTime(now)),
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let call = self.api.create(&params, &lease);
        self.calls.call(Verb::Create, RESOURCE, call).await.map(record)
    }

    /// Makes this process the holder.
    pub(super) async fn take(
        &self,
        version: &str,
        transitions: i32,
        now: Timestamp,
    ) -> Result<Record, KubeError> {
        let spec = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.seconds(),
            "acquireTime": MicroTime(now),
            "renewTime": MicroTime(now),
            "leaseTransitions": transitions,
        });
        self.patch(version, spec).await
    }

    /// Tells the others that this process is alive.
    pub(super) async fn renew(&self, version: &str, now: Timestamp) -> Result<Record, KubeError> {
        let spec = json!({ "leaseDurationSeconds": self.seconds(), "renewTime": MicroTime(now) });
        self.patch(version, spec).await
    }

    /// Makes nobody the holder: whoever comes next waits for nothing.
    pub(super) async fn release(&self, version: &str, now: Timestamp) -> Result<Record, KubeError> {
        let spec = json!({ "holderIdentity": null, "renewTime": MicroTime(now) });
        self.patch(version, spec).await
    }

    async fn patch(&self, version: &str, spec: Value) -> Result<Record, KubeError> {
        let patch = Patch::Merge(json!({ "metadata": { "resourceVersion": version }, "spec": spec }));
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let call = self.api.patch(&self.name, &params, &patch);
        self.calls.call(Verb::Patch, RESOURCE, call).await.map(record)
    }

    fn seconds(&self) -> i32 {
        i32::try_from(self.lease.as_secs()).unwrap_or(i32::MAX)
    }
}

fn record(lease: Lease) -> Record {
    let spec = lease.spec.unwrap_or_default();
    Record {
        version: lease.metadata.resource_version.unwrap_or_default(),
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        lease: spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_that_anybody_wrote_is_read_without_trust() {
        let read = |spec: Value| {
            let lease = json!({"metadata": {"name": "l", "resourceVersion": "7"}, "spec": spec});
            record(serde_json::from_value(lease).unwrap())
        };
        let held = read(json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 3}));
        assert_eq!(
            held,
            Record {
                version: "7".to_owned(),
                holder: Some("a".to_owned()),
                lease: Some(Duration::from_secs(15)),
                transitions: 3
            }
        );
        for seconds in [json!(0), json!(-5), json!(null)] {
            let odd = read(json!({"holderIdentity": "", "leaseDurationSeconds": seconds}));
            assert_eq!((odd.holder, odd.lease, odd.transitions), (None, None, 0));
        }
    }
}
