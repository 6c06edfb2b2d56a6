//! What the bindings in `fixtures/peer-left.yaml` need of Azure and of the broker: they name registries and identities that
//! are nobody else's to choose.

use azure_simulator::{Registry, Role};
use e2e::{TENANT, VmIdentity};
use serde_json::{Value, json};

use super::{BY_CLIENT_ID, BY_RESOURCE_ID, NARROW};

/// Beginning of the names of namespaces that the objects are put into.
pub(crate) const PREFIX: &str = "left-behind";
/// The ServiceAccount with an identity of its own, and that identity: one that the broker's machine has as well.
pub(crate) const FEDERATED: &str = "web";

pub(crate) fn federated() -> VmIdentity {
    BY_CLIENT_ID.identity()
}

/// The one that is named by its resource ID.
pub(super) fn puller() -> VmIdentity {
    VmIdentity::numbered("puller", 106)
}

pub(super) fn registries() -> [Registry; 3] {
    let open_to = |host, identities: &[VmIdentity]| {
        let registry = Registry::new(host, TENANT);
        identities.iter().fold(registry, |registry, identity| {
            registry.with_role(&identity.object_id, Role::AcrPull)
        })
    };
    [
        open_to("reg0.azurecr.io", &[federated()]),
        open_to("reg1.azurecr.io", &[BY_RESOURCE_ID.identity()]),
        open_to("reg2.azurecr.io", &[NARROW.identity(), puller()]),
    ]
}

/// For the identities of the broker that the bindings name.
pub(super) fn grants() -> [Value; 3] {
    let grant = |account: &str, identity: &str, registry: &str, repositories: &[&str]| {
        json!({
            "name": format!("{PREFIX}-{account}"),
            "clusters": [e2e::CLUSTER],
            "namespaces": [format!("{PREFIX}-*")],
            "serviceAccounts": [account],
            "identity": identity,
            "registries": [registry],
            "repositories": repositories,
            "registryWide": repositories.is_empty(),
        })
    };
    [
        grant("batch", BY_RESOURCE_ID.prefix, "reg1.azurecr.io", &["team/*"]),
        grant("legacy", NARROW.prefix, "reg2.azurecr.io", &[]),
        grant("default", puller().name, "reg2.azurecr.io", &[]),
    ]
}
