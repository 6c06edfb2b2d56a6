//! What all benchmarks start on: the stack of the tests, with an Azure that takes its time and nothing that a fleet
//! would not have.

use anyhow::Context as _;
use azure_simulator::{Registry, Role, State};
use e2e::{SimulatorKind, Stack, StackOptions, TENANT, Team, VmIdentity};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use syncer::crd::AcrPullBinding;

use crate::{herd, isolation, stall};

/// How long each call to the simulated Azure takes: that of the peer's measurement.
const AZURE_LATENCY_MS: u64 = 100;

/// Beginning of the name of every namespace of a benchmark.
pub(crate) const NAMESPACE_PREFIX: &str = "bench";

/// The registry that the broker-owned identity may pull from.
pub(crate) const BROKER_OWNED_REGISTRY: &str = "bench.azurecr.io";

/// Identities of the bindings, each with a registry: those of the peer's measurement.
const IDENTITIES: usize = 10;

/// What one cluster may ask, and one namespace of it: more than any machine answers, because a benchmark measures the broker
/// and not a limit.
const REQUESTS_PER_SECOND: u32 = 1_000_000;

/// Objects that are created at a time.
pub(crate) const CREATORS: usize = 32;

/// An identity of the broker itself.
pub(crate) fn broker_owned_identity() -> VmIdentity {
    VmIdentity::numbered("bench", 1)
}

/// How the stack is started.
pub(crate) fn options() -> StackOptions {
    let identity = broker_owned_identity();
    let registries = owned_registries();
    let registry = |host: &String| Registry::new(host, TENANT).with_role(&identity.object_id, Role::AcrPull);
    let azure = registries
        .iter()
        .map(registry)
        .fold(State::default(), State::with_registry)
        .with_latency_ms(AZURE_LATENCY_MS);
    let grant = json!({
        "name": identity.name,
        "clusters": [e2e::CLUSTER],
        "namespaces": [format!("{NAMESPACE_PREFIX}-*")],
        "serviceAccounts": ["*"],
        "identity": identity.name,
        "registries": registries,
        "repositories": ["team/*"],
    });
    let rate = json!({"requestsPerSecond": REQUESTS_PER_SECOND, "burst": REQUESTS_PER_SECOND});
    StackOptions {
        name: "bench".to_owned(),
        // A process of its own, so that its work is not the load generator's.
        simulator: SimulatorKind::Process,
        azure,
        identities: vec![identity],
        grants: vec![grant],
        limits: json!({"perCluster": rate, "perNamespace": rate}),
        traces: false,
        ..StackOptions::default()
    }
}

/// The registries of one benchmark's own, which the broker-owned identity may pull from.
pub(crate) fn registries(benchmark: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{NAMESPACE_PREFIX}{benchmark}{number}.azurecr.io"))
        .collect()
}

/// All registries of the broker-owned identity: a grant names each.
fn owned_registries() -> Vec<String> {
    let own = [isolation::registries(), stall::registries(), herd::registries()];
    let shared = [BROKER_OWNED_REGISTRY.to_owned()];
    shared.into_iter().chain(own.into_iter().flatten()).collect()
}

/// A team with everything that so many bindings refer to: a `ServiceAccount` to be linked for each, ten federated
/// `ServiceAccount`s with an application and a registry.
///
/// # Errors
/// The control plane or the simulator refuses.
pub(crate) async fn team(stack: &Stack, bindings: usize) -> anyhow::Result<Team<'_>> {
    let team = stack.team(NAMESPACE_PREFIX).await?;
    for identity in 0..IDENTITIES {
        let application = team.federated_account(&identity_account(identity)).await?;
        let registry = registry(identity);
        if stack.azure().admin().state().await?.registry(&registry).is_none() {
            stack.azure().add_registry(&registry).await?;
        }
        stack
            .azure()
            .grant_pull(&registry, &application.object_id)
            .await?;
    }
    let create = async |number| team.create_account(&name(number), &[], &[]).await;
    stream::iter(0..bindings)
        .map(create)
        .buffer_unordered(CREATORS)
        .try_collect::<()>()
        .await
        .context("the ServiceAccounts")?;
    Ok(team)
}

/// Binding `number`: an identity and a registry that it shares with every tenth, a scope and a `ServiceAccount` of its own.
pub(crate) fn binding(number: usize) -> AcrPullBinding {
    let name = name(number);
    let scope = format!("repository:team/{name}:pull");
    let mut binding = e2e::binding::workload_identity(&name, &name, &registry(number), &scope);
    if let Some(identity) = &mut binding.spec.auth.workload_identity {
        identity.service_account_ref = identity_account(number);
    }
    binding
}

/// The `ServiceAccount` that the identity of binding `number` trusts.
pub(crate) fn identity_account(number: usize) -> String {
    format!("identity-{}", number % IDENTITIES)
}

/// The number of the binding that an object belongs to: its `ServiceAccount` and the binding have one name, the Secret's ends
/// with it.
pub(crate) fn number_of(name: &str) -> Option<usize> {
    name.rsplit_once("web-")?.1.parse().ok()
}

fn name(number: usize) -> String {
    format!("web-{number:04}")
}

fn registry(number: usize) -> String {
    format!("bench{}.azurecr.io", number % IDENTITIES)
}

#[cfg(test)]
mod tests {
    use syncer::binding::ApiVersion;

    use super::*;

    #[test]
    fn number_is_found_in_the_names_of_all_objects() {
        let secret = syncer::pull_secret::name_for(ApiVersion::V1Beta2, &name(42));
        for object in [name(42), secret] {
            assert_eq!(number_of(&object), Some(42), "{object}");
        }
        assert_eq!(number_of(&identity_account(3)), None);
    }

    #[test]
    fn bindings_share_ten_identities_and_have_scopes_of_their_own() {
        let (first, eleventh) = (binding(0).spec, binding(10).spec);
        assert_eq!(first.auth, eleventh.auth);
        assert_eq!(first.acr.server, eleventh.acr.server);
        assert_ne!(first.acr.scope, eleventh.acr.scope);
        assert_ne!(first.auth, binding(1).spec.auth);
    }
}
