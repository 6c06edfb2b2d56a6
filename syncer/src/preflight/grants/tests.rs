//! What is printed for which bindings; that the broker takes it, and allows just that, is a test that crosses crates.

use super::*;
use crate::{
    binding::Binding,
    preflight::{
        assess::assess,
        scene::{args, empty, fresh, peers},
    },
    samples::{account, binding, managed_identity_spec, now},
};

const TENANT: &str = "22222222-2222-2222-2222-222222222222";

fn grants(world: &super::super::world::World, arguments: &str) -> Sections {
    let args = args(arguments);
    all(&assess(world, &args, now()), &args)
}

/// A binding in a namespace, for an account, with a scope.
fn owned(namespace: &str, name: &str, account: &str, scope: &str) -> Binding {
    let mut spec = managed_identity_spec();
    account.clone_into(&mut spec.service_account_name);
    scope.clone_into(&mut spec.acr.scope);
    let mut binding = binding(name, spec);
    binding.metadata.namespace = Some(namespace.to_owned());
    binding
}

#[test]
fn grants_are_printed_as_sections_of_the_brokers_configuration() {
    let yaml = grants(&fresh(), &format!("--cluster weu-7 --tenant {TENANT}"))
        .yaml()
        .unwrap();
    assert_eq!(
        yaml,
        "\
# What the bindings of this cluster ask for, and no more. Read it as a request, and not as an approval.
# An identity with another source, or with an application: docs/federation.md.
identities:
- name: client-33333333-3333-3333-3333-000000000003
  cloud: PublicCloud
  tenant: 22222222-2222-2222-2222-222222222222
  clientId: 33333333-3333-3333-3333-000000000003
  source: imds
- name: client-33333333-3333-3333-3333-000000000009
  cloud: PublicCloud
  tenant: 22222222-2222-2222-2222-222222222222
  clientId: 33333333-3333-3333-3333-000000000009
  source: imds
- name: puller
  cloud: PublicCloud
  tenant: 22222222-2222-2222-2222-222222222222
  resourceId: /subscriptions/44444444-4444-4444-4444-444444444444/resourcegroups/rg/providers/microsoft.managedidentity/userassignedidentities/puller
  source: imds
grants:
- name: shop-legacy
  clusters:
  - weu-7
  namespaces:
  - shop
  serviceAccounts:
  - legacy
  identity: client-33333333-3333-3333-3333-000000000003
  registries:
  - legacy.azurecr.io
  registryWide: true
- name: shop-prod
  clusters:
  - weu-7
  namespaces:
  - shop
  serviceAccounts:
  - batch
  identity: client-33333333-3333-3333-3333-000000000009
  registries:
  - prod.azurecr.io
  repositories:
  - team/web
  actions:
  - pull
- name: shop-legacy-2
  clusters:
  - weu-7
  namespaces:
  - shop
  serviceAccounts:
  - default
  identity: puller
  registries:
  - legacy.azurecr.io
  registryWide: true
"
    );
}

#[test]
fn grants_of_federated_identities_are_printed_where_they_are_wanted() {
    assert_eq!(grants(&fresh(), "").grants.len(), 3);
    let all = grants(&peers(), &format!("--federated-grants --tenant {TENANT}"));
    let federated: Vec<&Grant> = all
        .grants
        .iter()
        .filter(|grant| grant.federated.is_some())
        .collect();
    let [one] = federated.as_slice() else {
        panic!("{federated:?}")
    };
    // The accounts that are linked, and the one whose token proves the identity.
    assert_eq!(
        one.service_accounts,
        ["batch", "puller"].map(str::to_owned).into()
    );
    let whose = one.federated.as_ref().unwrap();
    assert_eq!(whose.tenants, [TENANT]);
    assert_eq!(whose.client_ids, ["33333333-3333-3333-3333-000000000001"]);
    assert!(one.identity.is_none() && !one.registry_wide);
}

#[test]
fn grants_name_every_account_of_a_binding_and_leave_it_out_if_one_can_be_none() {
    let mut world = empty();
    let mut web = owned("shop", "web", "web", "repository:team/web:pull");
    web.spec.service_account_names = ["worker", "batch", "web"].map(str::to_owned).into();
    world.add(web);
    let found = grants(&world, "--cluster c");
    assert_eq!(
        found.grants[0].service_accounts,
        ["batch", "web", "worker"].map(str::to_owned).into()
    );

    world.edit("web", |web| {
        "*".clone_into(&mut web.spec.service_account_names[1]);
    });
    let found = grants(&world, "--cluster c");
    assert_eq!((found.grants.len(), found.left_out.len()), (0, 1));
}

#[test]
fn grants_are_not_printed_for_a_registry_that_the_syncer_refuses() {
    let found = grants(&fresh(), "--allowed-acr-server-suffixes legacy.azurecr.io");
    let registries: Vec<_> = found.grants.iter().flat_map(|grant| &grant.registries).collect();
    assert_eq!(registries, ["legacy.azurecr.io"; 2]);
}

#[test]
fn grants_are_shared_by_namespaces_that_ask_for_the_same_and_by_no_others() {
    const WEB: &str = "repository:team/web:pull";
    let mut world = empty();
    for (namespace, name, scope) in [
        ("blue", "web", WEB),
        ("green", "web", WEB),
        ("red", "web", WEB),
        ("red", "data", "repository:team/data:pull"),
        ("red", "push", "repository:team/data:pull,push"),
    ] {
        world.add(owned(namespace, name, "app", scope));
    }
    let shared: Vec<_> = grants(&world, "--cluster c").grants;
    let told: Vec<_> = shared
        .iter()
        .map(|grant| {
            let joined = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
            [
                grant.name.clone(),
                joined(&grant.namespaces),
                joined(&grant.repositories),
                joined(&grant.actions),
            ]
        })
        .collect();
    assert_eq!(
        told,
        [
            ["red-prod", "red", "team/data team/web", "pull"],
            ["blue-and-1-more-prod", "blue green", "team/web", "pull"],
            ["red-prod-2", "red", "team/data", "pull push"],
        ]
        .map(|grant| grant.map(str::to_owned))
    );
}

#[test]
fn grants_leave_out_what_the_broker_would_refuse_and_say_why() {
    let mut world = empty();
    world.add_account(account("app"));
    for (name, scope) in [
        ("catalog", "registry:catalog:*"),
        ("shout", "repository:team/web:PULL"),
        ("upper", "repository:Team/web:pull"),
    ] {
        world.add(owned("shop", name, "app", scope));
    }
    // The older CRD lets it through, and in a grant it would be a pattern.
    world.add(owned("shop", "any", "*", "repository:team/web:pull"));
    let mut elsewhere = owned("shop", "elsewhere", "app", "repository:team/web:pull");
    "registry.example".clone_into(&mut elsewhere.spec.acr.server);
    world.add(elsewhere);
    let grants = grants(&world, "--cluster c");
    assert!(grants.grants.is_empty() && grants.identities.is_empty());
    let yaml = grants.yaml().unwrap();
    for line in [
        "# Left out: AcrPullBinding.v1beta2 shop/any: no ServiceAccount can be named \"*\".",
        "# Left out: AcrPullBinding.v1beta2 shop/shout: no grant can allow scope repository:team/web:PULL.",
        "# Left out: AcrPullBinding.v1beta2 shop/catalog: no grant can allow scope registry:catalog:*.",
        "# Left out: AcrPullBinding.v1beta2 shop/elsewhere: registry registry.example is not under azurecr.io, the domain of PublicCloud.",
        "# Left out: AcrPullBinding.v1beta2 shop/upper: no grant can allow scope repository:Team/web:pull.",
    ] {
        assert!(yaml.contains(line), "{yaml}");
    }
}

#[test]
fn grants_without_tenant_and_cluster_say_what_to_fill_in() {
    let yaml = grants(&fresh(), "").yaml().unwrap();
    assert!(yaml.contains("in place of FILL-IN"), "{yaml}");
    assert!(yaml.contains("tenant: FILL-IN"), "{yaml}");
    let whole = grants(&fresh(), &format!("--cluster c --tenant {TENANT}"));
    assert!(!whole.yaml().unwrap().contains("FILL-IN"));
}
