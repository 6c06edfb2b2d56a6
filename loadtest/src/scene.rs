//! What both benchmarks start on: the stack of the tests, with an Azure that takes its time and nothing that a fleet
//! would not have.

use azure_simulator::{Registry, Role, Service, State};
use e2e::{SimulatorKind, StackOptions, TENANT, VmIdentity};
use serde_json::json;

/// How long each call to the simulated Azure takes: that of the peer's measurement.
const AZURE_LATENCY_MS: u64 = 100;

/// Beginning of the name of every namespace of a benchmark.
pub(crate) const NAMESPACE_PREFIX: &str = "bench";

/// The registry that the broker-owned identity may pull from.
pub(crate) const BROKER_OWNED_REGISTRY: &str = "bench.azurecr.io";

/// An identity of the broker itself.
pub(crate) fn broker_owned_identity() -> VmIdentity {
    VmIdentity::numbered("bench", 1)
}

/// How the stack is started.
pub(crate) fn options() -> StackOptions {
    let identity = broker_owned_identity();
    let registry = Registry::new(BROKER_OWNED_REGISTRY, TENANT).with_role(&identity.object_id, Role::AcrPull);
    let mut azure = State::default().with_registry(registry);
    azure.latency_ms =
        [Service::Entra, Service::Imds, Service::Acr].map(|service| (service, AZURE_LATENCY_MS)).into();
    let grant = json!({
        "name": identity.name,
        "clusters": [e2e::CLUSTER],
        "namespaces": [format!("{NAMESPACE_PREFIX}-*")],
        "serviceAccounts": ["*"],
        "identity": identity.name,
        "registries": [BROKER_OWNED_REGISTRY],
        "repositories": ["team/*"],
    });
    StackOptions {
        name: "bench".to_owned(),
        // A process of its own, so that its work is not the load generator's.
        simulator: SimulatorKind::Process,
        azure,
        identities: vec![identity],
        grants: vec![grant],
        traces: false,
        ..StackOptions::default()
    }
}
