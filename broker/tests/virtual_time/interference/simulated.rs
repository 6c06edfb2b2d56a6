//! The clusters, and the Azure that they share: two tenants, in each of which every identity of it has everything. Whoever is
//! refused there is refused by the broker's policy.

use std::collections::BTreeMap;

use azure_simulator::{Cloud, Issuer, IssuerKeys, Principal, Registry, Role, State};

pub(crate) const CLUSTERS: usize = 3;
/// The tenant of the broker's identities ...
pub(crate) const TENANT: &str = "22222222-2222-2222-2222-222222222222";
/// ... another one, in which the applications are present too ...
pub(crate) const OTHER_TENANT: &str = "22222222-2222-2222-2222-22222222222b";
/// ... and another name of the first, which to the policy is a name like any other.
pub(crate) const DOMAIN: &str = "contoso.onmicrosoft.com";
/// Client IDs of what the broker's machine has.
pub(crate) const OWNED: [&str; 3] = [
    "33333333-3333-3333-3333-00000000000c",
    "33333333-3333-3333-3333-00000000000d",
    "33333333-3333-3333-3333-00000000000e",
];
/// Client IDs of applications that trust every ServiceAccount.
pub(crate) const FEDERATED: [&str; 2] = [
    "33333333-3333-3333-3333-00000000000a",
    "33333333-3333-3333-3333-00000000000b",
];
/// The registries, each with its tenant: it takes tokens of no other.
pub(crate) const REGISTRIES: [(&str, &str); 3] = [
    ("r0.azurecr.io", TENANT),
    ("r1.azurecr.io", TENANT),
    ("r2.azurecr.io", OTHER_TENANT),
];
pub(crate) const SUBJECT_AUDIENCE: &str = "api://AzureCRTokenExchange";
/// A cloud that the broker's configuration adds. Neither tenant is in it.
pub(crate) const PRIVATE_AUTHORITY: &str = "login.private.example";
pub(crate) const PRIVATE_SUFFIX: &str = "azurecr.private.example";

/// Also the ID of its key.
pub(crate) fn name_of(cluster: usize) -> String {
    format!("cluster-{cluster}")
}

/// Two share one, as clusters that nobody configured otherwise do.
pub(crate) fn issuer(cluster: usize) -> &'static str {
    if cluster < 2 {
        "https://kubernetes.default.svc.cluster.local"
    } else {
        "https://oidc.example/cluster-2/"
    }
}

/// The object that a client is in a tenant.
pub(crate) fn object(client: &str, tenant: &str) -> String {
    let first = if tenant == TENANT { "4" } else { "5" };
    client.replace('3', first)
}

/// The tenant that Azure knows by this name.
pub(crate) fn directory(name: &str) -> &str {
    if name == DOMAIN { TENANT } else { name }
}

/// The resource that an identity of the broker's machine is.
pub(crate) fn resource_id(client: &str) -> String {
    format!(
        "/subscriptions/55555555-5555-5555-5555-555555555555/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{client}"
    )
}

/// Namespace and name of every ServiceAccount.
pub(crate) fn accounts() -> impl Iterator<Item = (String, String)> {
    ["web", "web-2", "data"]
        .into_iter()
        .flat_map(|namespace| ["app", "job"].map(|name| (namespace.to_owned(), name.to_owned())))
}

/// Everybody may pull and push everywhere in the tenants where they are.
pub(crate) fn azure() -> State {
    let mut state = State::default()
        .with_cloud(Cloud::named("private", PRIVATE_AUTHORITY, PRIVATE_SUFFIX))
        .with_tenant(TENANT)
        .with_tenant(OTHER_TENANT);
    state.tenants[0].domains.push(DOMAIN.to_owned());
    let mut keys = BTreeMap::<&str, Vec<String>>::new();
    for cluster in 0..CLUSTERS {
        keys.entry(issuer(cluster)).or_default().push(name_of(cluster));
    }
    for (url, kids) in &keys {
        let mut issuer = Issuer::simulated(url);
        issuer.keys = IssuerKeys::Simulated { kids: kids.clone() };
        state = state.with_issuer(issuer);
    }
    for client in OWNED {
        let holder = object(client, TENANT);
        state = state.with_vm_identity(Principal::user_assigned(
            TENANT,
            client,
            &holder,
            &resource_id(client),
        ));
    }
    for client in FEDERATED {
        let mut app = Principal::app(TENANT, client, &object(client, TENANT));
        for issuer in keys.keys() {
            for (namespace, name) in accounts() {
                let subject = format!("system:serviceaccount:{namespace}:{name}");
                app = app.federated(issuer, &subject, SUBJECT_AUDIENCE);
            }
        }
        let abroad = Principal::of_application(TENANT, OTHER_TENANT, client, &object(client, OTHER_TENANT));
        state = state.with_principal(app).with_principal(abroad);
    }
    for (host, tenant) in REGISTRIES {
        let mut registry = Registry::new(host, tenant);
        let owned: &[&str] = if tenant == TENANT { &OWNED } else { &[] };
        for client in owned.iter().chain(&FEDERATED) {
            registry.grant(&object(client, tenant), Role::AcrPush, None);
        }
        state = state.with_registry(registry);
    }
    state
}
