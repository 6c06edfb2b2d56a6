//! What there is in Azure, and who asks for what of it.

use azure_simulator::{Issuer, Principal, Registry, Role, State};

pub(crate) const TENANT: &str = "22222222-2222-2222-2222-222222222222";
pub(crate) const ISSUER: &str = "https://oidc.example/cluster/";
pub(crate) const AUDIENCE: &str = "api://AzureCRTokenExchange";
/// Another one that the cluster accepts.
pub(crate) const OTHER_AUDIENCE: &str = "api://AzureADTokenExchange";

/// Who asks for what: one cache key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ask {
    pub(crate) namespace: String,
    pub(crate) client: String,
    pub(crate) tenant: String,
    pub(crate) registry: String,
    pub(crate) scope: String,
    /// Of the ServiceAccount's token.
    pub(crate) audience: String,
    /// By an identity of the broker instead of a ServiceAccount's.
    pub(crate) is_broker_owned: bool,
}

impl Ask {
    /// The `n`-th application, in a namespace of its own.
    pub(crate) fn federated(n: usize, registry: &str) -> Self {
        Self {
            namespace: format!("team-{n}"),
            client: client(n),
            tenant: TENANT.to_owned(),
            registry: registry.to_owned(),
            scope: "repository:team/app:pull".to_owned(),
            audience: AUDIENCE.to_owned(),
            is_broker_owned: false,
        }
    }

    /// The `n`-th identity of the broker.
    pub(crate) fn broker_owned(n: usize, registry: &str) -> Self {
        Self {
            is_broker_owned: true,
            ..Self::federated(n, registry)
        }
    }

    pub(crate) fn subject(&self) -> String {
        format!("system:serviceaccount:{}:app", self.namespace)
    }
}

/// The client ID of the `n`-th principal.
pub(crate) fn client(n: usize) -> String {
    format!("33333333-3333-3333-3333-{n:012}")
}

/// The object ID of the `n`-th principal.
pub(crate) fn object(n: usize) -> String {
    format!("44444444-4444-4444-4444-{n:012}")
}

fn resource(n: usize) -> String {
    format!(
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i{n}"
    )
}

/// An Azure in which the first `n` applications trust their namespace's ServiceAccount and may pull everywhere.
pub(crate) fn azure_with(n: usize, registries: &[&str]) -> State {
    let mut state = State::default()
        .with_tenant(TENANT)
        .with_issuer(Issuer::simulated(ISSUER));
    for n in 0..n {
        let subject = format!("system:serviceaccount:team-{n}:app");
        let app = Principal::app(TENANT, &client(n), &object(n)).federated(ISSUER, &subject, AUDIENCE);
        state = state.with_principal(app);
    }
    open_to(state, n, registries)
}

/// An Azure whose virtual machine has the first `n` identities, which may pull everywhere.
pub(crate) fn azure_with_owned(n: usize, registries: &[&str]) -> State {
    let mut state = State::default().with_tenant(TENANT);
    for n in 0..n {
        let identity = Principal::user_assigned(TENANT, &client(n), &object(n), &resource(n));
        state = state.with_vm_identity(identity);
    }
    open_to(state, n, registries)
}

/// With these registries, from which the first `n` identities may pull.
fn open_to(state: State, n: usize, registries: &[&str]) -> State {
    registries.iter().fold(state, |state, host| {
        let mut registry = Registry::new(host, TENANT);
        for n in 0..n {
            registry.grant(&object(n), Role::AcrPull, None);
        }
        state.with_registry(registry)
    })
}
