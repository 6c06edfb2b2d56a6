//! Grants for federated identities, and what a cluster may demand of the grants.

use super::*;
use crate::{
    authz::nearest::nearest,
    config::{GrantMode, GrantModes, GrantedClients, RegistryFence},
};

const OTHER_TENANT: &str = "contoso.onmicrosoft.com";

/// The cluster demands grants for federated identities, and has one.
fn granted() -> Rig {
    let mut rig = rig();
    demand(&mut rig, GrantMode::Enforce, Some(GrantMode::Enforce));
    rig.policy.grants[0].identity = GrantedIdentity::Federated(GrantedClients {
        cloud: "PublicCloud".into(),
        tenants: vec![TENANT.parse().unwrap()],
        clients: vec![CLIENT.parse().unwrap()],
    });
    rig
}

fn demand(rig: &mut Rig, broker_owned: GrantMode, federated: Option<GrantMode>) {
    with_cluster(rig, |cluster| {
        cluster.grant_modes = GrantModes {
            broker_owned,
            federated,
        };
    });
}

fn decision(rig: &Rig, subject: Option<&Subject>, request: &DockerConfigRequest) -> Option<Decision> {
    let permit = decide(rig, subject, request).ok()?;
    Some(permit.decision().clone())
}

/// A change that the grant does not allow.
type Break = fn(&mut DockerConfigRequest, &mut Subject);

#[test]
fn a4_federated_request_needs_a_grant_where_the_cluster_demands_one() {
    let rig = granted();
    let allowed = decision(&rig, Some(&subject("web")), &federated_request());
    assert_eq!(allowed, Some(Decision::Granted("web".into())));
    let cases: [(&str, Break); 10] = [
        ("namespaces", |request, subject| {
            *request = DockerConfigRequest {
                namespace: "data".into(),
                ..federated_request()
            };
            subject.namespace = "data".into();
        }),
        ("serviceAccounts", |request, _| {
            request.service_accounts = vec!["other".into()];
        }),
        ("serviceAccounts", |request, _| request.service_accounts.clear()),
        ("serviceAccounts", |_, subject| subject.name = "other".into()),
        ("registries", |request, _| {
            request.registry = "test.azurecr.io".parse().unwrap();
        }),
        ("repositories", |request, _| {
            request.scopes = ScopeSet::from_field("repository:other/app:pull").unwrap();
        }),
        ("actions", |request, _| {
            request.scopes = ScopeSet::from_field("repository:team/app:push").unwrap();
        }),
        ("registryWide", |request, _| request.scopes = ScopeSet::default()),
        ("federated.tenants", |request, _| {
            name(request, Some(OTHER_TENANT), CLIENT);
        }),
        ("federated.clientIds", |request, _| {
            name(request, None, "33333333-3333-3333-3333-000000000002");
        }),
    ];
    for (field, change) in cases {
        let (mut request, mut subject) = (federated_request(), subject("web"));
        change(&mut request, &mut subject);
        let denied = decide(&rig, Some(&subject), &request).err();
        assert!(
            matches!(denied, Some(Denied::NoGrant { .. })),
            "{field}: {denied:?}"
        );
        let asked = asked(&rig.caller, Some(&subject), &request, &rig.clouds, &rig.policy)
            .ok()
            .unwrap();
        let near = nearest(&rig.policy.grants, &asked, 5);
        let fields: Vec<&str> = near[0].misses.iter().map(|miss| miss.field).collect();
        assert_eq!(fields, [field]);
    }
}

fn name(request: &mut DockerConfigRequest, tenant: Option<&str>, client: &str) {
    request.identity = RequestedIdentity::Federated {
        tenant: tenant.map(|tenant| tenant.parse().unwrap()),
        client: client.parse().unwrap(),
        subject_token: Secret::from("token".to_owned()),
    };
}

#[test]
fn a4_grant_of_one_kind_of_identity_is_none_for_the_other() {
    // The client id is that of a declared identity too.
    let owned = rig();
    let mut federated = granted();
    assert!(
        decide(&federated, None, &owned_request()).is_err(),
        "a federated grant for a broker-owned one"
    );
    federated.policy.grants = owned.policy.grants;
    let denied = decide(&federated, Some(&subject("web")), &federated_request());
    assert!(denied.is_err(), "a broker-owned grant for a federated one");
}

#[test]
fn a4_federated_grant_is_of_one_cloud() {
    let mut rig = granted();
    let mirror = Cloud {
        name: "mirror".into(),
        authority: "https://login.mirror.example".parse().unwrap(),
        registries: RegistryFence::new([], ["azurecr.io".to_owned()]),
        registry_audience: "https://containerregistry.azure.net".into(),
        federation_audience: None,
    };
    rig.clouds = Clouds::new(vec![Arc::new(mirror)]);
    let request = DockerConfigRequest {
        cloud: CloudReference {
            name: "mirror".into(),
            authority_host: String::new(),
        },
        ..federated_request()
    };
    assert!(decide(&rig, Some(&subject("web")), &federated_request()).is_ok());
    assert!(decide(&rig, Some(&subject("web")), &request).is_err());
}

#[test]
fn a4_tenant_by_domain_is_not_the_tenant_by_its_guid() {
    let mut rig = granted();
    let GrantedIdentity::Federated(clients) = &mut rig.policy.grants[0].identity else {
        panic!("federated")
    };
    clients.tenants = vec![OTHER_TENANT.parse().unwrap()];
    let mut request = federated_request();
    assert!(
        decide(&rig, Some(&subject("web")), &request).is_err(),
        "the default tenant is a GUID"
    );
    name(&mut request, Some("CONTOSO.onmicrosoft.com"), CLIENT);
    assert!(
        decide(&rig, Some(&subject("web")), &request).is_ok(),
        "the same form in another case"
    );
}

#[test]
fn permit_without_the_demand_leaves_federated_requests_to_entra() {
    let mut rig = rig();
    rig.policy.grants.clear();
    let decided = decision(&rig, Some(&subject("web")), &federated_request());
    assert_eq!(decided, Some(Decision::NotNeeded));
}

#[test]
fn a4_report_lets_through_what_no_grant_allows_and_nothing_else() {
    let mut rig = granted();
    demand(&mut rig, GrantMode::Report, Some(GrantMode::Report));
    let web = subject("web");
    let granted = Some(Decision::Granted("web".into()));
    assert_eq!(decision(&rig, Some(&web), &federated_request()), granted);
    rig.policy.grants.clear();
    for (subject, request) in [(Some(&web), federated_request()), (None, owned_request())] {
        assert_eq!(decision(&rig, subject, &request), Some(Decision::ReportOnly));
        let elsewhere = DockerConfigRequest {
            registry: "prod.example.com".parse().unwrap(),
            ..request
        };
        assert!(matches!(
            decide(&rig, subject, &elsewhere),
            Err(Denied::RegistryDomain { .. })
        ));
    }
    let undeclared = DockerConfigRequest {
        identity: RequestedIdentity::BrokerOwned(IdentitySelector::ClientId(
            "33333333-3333-3333-3333-000000000009".parse().unwrap(),
        )),
        ..owned_request()
    };
    assert!(decide(&rig, None, &undeclared).is_err(), "not declared");
    with_cluster(&mut rig, |cluster| {
        cluster.registry_ceiling = vec!["only.azurecr.io".parse().unwrap()];
        cluster.tenant_ceiling = vec![OTHER_TENANT.parse().unwrap()];
    });
    assert!(matches!(
        decide(&rig, None, &owned_request()),
        Err(Denied::RegistryCeiling(_))
    ));
    with_cluster(&mut rig, |cluster| cluster.registry_ceiling.clear());
    assert!(matches!(
        decide(&rig, Some(&web), &federated_request()),
        Err(Denied::TenantCeiling(_))
    ));
}
