//! Each rule said no to once, each kind of request said yes to once.

mod canonical;
mod federated;

use std::time::UNIX_EPOCH;

use proto::types::ResourceId;

use super::*;
use crate::{
    authn::{Cluster, KeySet, KeyStore},
    config::{
        ClusterConfig, DEFAULT_TOKEN_LIFETIME, Grant, GrantModes, GrantedIdentity, IdentitySource, KeySource,
        Limits, Pattern, Workloads,
    },
    request::{CloudReference, Wish},
};

const CLIENT: &str = "33333333-3333-3333-3333-000000000001";
const TENANT: &str = "22222222-2222-2222-2222-222222222222";
const RESOURCE: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web";
const JWKS: &str = r#"{"keys":[{"kty":"RSA","n":"sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri23bOdgWp4Dy1WlUzewbgBHod5pcM9H95GQRV3JDXboIRROSBigeC5yjU1hGzHHyXss8UDprecbAYxknTcQkhslANGRUZmdTOQ5qTRsLAt6BTYuyvVRdhS8exSZEy_c4gs_7svlJJQ4H9_NxsiIoLwAEk7-Q3UXERGYw_75IDrGA84-lA_-Ct4eTlXHBIY2EaV7t7LjJaynVJCpkv4LKjTTAumiGUIuQhrNhZLuF_RJLqHpM2kgWFLU7-VTdL1VbC2tejvcI2BlMkEpk1BzBZI0KQB0GaDWFLN-aEAw3vRw","e":"AQAB"}]}"#;

struct Rig {
    caller: Caller,
    clouds: Clouds,
    policy: Policy,
}

fn rig() -> Rig {
    let clouds = Clouds::new(Vec::new());
    let identity = Arc::new(Identity {
        name: "team-web".into(),
        cloud: Arc::clone(clouds.named("PublicCloud").unwrap()),
        tenant: TENANT.parse().unwrap(),
        client_id: Some(CLIENT.parse().unwrap()),
        resource_id: Some(RESOURCE.parse().unwrap()),
        source: IdentitySource::Imds,
        application: None,
    });
    let grant = Grant {
        name: "web".into(),
        clusters: vec!["weu-7".into()],
        namespaces: vec![Pattern::new("web"), Pattern::new("web-*")],
        service_accounts: vec![Pattern::new("app"), Pattern::new("job-*")],
        identity: GrantedIdentity::BrokerOwned("team-web".into()),
        registries: vec!["prod.azurecr.io".parse().unwrap()],
        repositories: vec![Pattern::new("team/*")],
        actions: vec!["pull".into()],
        registry_wide: false,
    };
    let config = ClusterConfig {
        name: "weu-7".into(),
        issuer: "https://issuer.example".into(),
        keys: KeySource::Fixed(KeySet::parse(JWKS.as_bytes()).unwrap()),
        caller_audiences: vec!["acrpull-broker".into()],
        subject_audiences: vec!["api://AzureCRTokenExchange".into()],
        max_token_lifetime: DEFAULT_TOKEN_LIFETIME,
        syncers: vec!["system:serviceaccount:acrpull-system:acrpull-syncer".into()],
        operators: Vec::new(),
        client_certificates: Vec::new(),
        workloads: Workloads::default(),
        default_tenant: Some(TENANT.parse().unwrap()),
        grant_modes: GrantModes::default(),
        tenant_ceiling: Vec::new(),
        registry_ceiling: Vec::new(),
        limits: Limits::default(),
    };
    let cluster = Arc::new(Cluster {
        config,
        keys: KeyStore::default(),
    });
    let subject = Arc::from("system:serviceaccount:acrpull-system:acrpull-syncer");
    Rig {
        caller: Caller {
            cluster,
            subject,
            evidence: Arc::default(),
        },
        clouds,
        policy: Policy {
            identities: vec![identity],
            grants: vec![grant],
        },
    }
}

fn with_cluster(rig: &mut Rig, change: impl FnOnce(&mut ClusterConfig)) {
    let cluster = Arc::get_mut(&mut rig.caller.cluster).unwrap();
    change(&mut cluster.config);
}

fn owned_request() -> DockerConfigRequest {
    DockerConfigRequest {
        namespace: "web".into(),
        binding: "app".into(),
        binding_uid: String::new(),
        service_accounts: vec!["app".into()],
        registry: "prod.azurecr.io".parse().unwrap(),
        scopes: ScopeSet::from_field("repository:team/app:pull").unwrap(),
        cloud: CloudReference::default(),
        identity: RequestedIdentity::BrokerOwned(IdentitySelector::ClientId(CLIENT.parse().unwrap())),
        wish: Wish::default(),
    }
}

fn federated_request() -> DockerConfigRequest {
    DockerConfigRequest {
        identity: RequestedIdentity::Federated {
            tenant: None,
            client: CLIENT.parse().unwrap(),
            subject_token: Secret::from("token".to_owned()),
        },
        ..owned_request()
    }
}

fn subject(namespace: &str) -> Subject {
    Subject {
        subject: format!("system:serviceaccount:{namespace}:app").into(),
        namespace: namespace.into(),
        name: "app".into(),
        audiences: vec!["api://AzureCRTokenExchange".into()].into(),
    }
}

fn decide(rig: &Rig, subject: Option<&Subject>, request: &DockerConfigRequest) -> Result<Permit, Denied> {
    permit(&rig.caller, subject, request, &rig.clouds, &rig.policy)
}

#[test]
fn permit_owned_identity_by_either_id_with_a_grant() {
    let rig = rig();
    let permit = decide(&rig, None, &owned_request()).ok().unwrap();
    assert_eq!(permit.decision(), &Decision::Granted("web".into()));
    let resource: ResourceId = RESOURCE
        .to_uppercase()
        .replace("/SUBSCRIPTIONS", "/subscriptions")
        .parse()
        .unwrap();
    let by_resource = DockerConfigRequest {
        identity: RequestedIdentity::BrokerOwned(IdentitySelector::ResourceId(resource)),
        ..owned_request()
    };
    assert!(decide(&rig, None, &by_resource).is_ok());
}

#[test]
fn permit_owned_identity_outside_the_grant_is_denied() {
    type Break = fn(&mut DockerConfigRequest);
    let cases: [(&str, Break); 10] = [
        ("namespace", |r| r.namespace = "other".into()),
        ("namespace by prefix only", |r| r.namespace = "webs".into()),
        ("account", |r| r.service_accounts = vec!["other".into()]),
        ("one account of two", |r| {
            r.service_accounts = vec!["app".into(), "other".into()];
        }),
        ("registry", |r| r.registry = "test.azurecr.io".parse().unwrap()),
        ("repository", |r| {
            r.scopes = ScopeSet::from_field("repository:team2/app:pull").unwrap();
        }),
        ("action", |r| {
            r.scopes = ScopeSet::from_field("repository:team/app:pull,push").unwrap();
        }),
        ("one scope of two", |r| {
            r.scopes = ScopeSet::from_field("repository:team/app:pull repository:x:pull").unwrap();
        }),
        ("another kind of scope", |r| {
            r.scopes = ScopeSet::from_field("registry:catalog:*").unwrap();
        }),
        ("no scope at all", |r| r.scopes = ScopeSet::default()),
    ];
    let rig = rig();
    for (what, break_it) in cases {
        let mut request = owned_request();
        break_it(&mut request);
        assert!(
            matches!(decide(&rig, None, &request), Err(Denied::NoGrant { .. })),
            "{what}"
        );
    }
}

#[test]
fn permit_owned_identity_that_is_not_declared_reads_like_one_without_a_grant() {
    let rig = rig();
    let undeclared = "33333333-3333-3333-3333-0000000000ff".parse().unwrap();
    let request = DockerConfigRequest {
        identity: RequestedIdentity::BrokerOwned(IdentitySelector::ClientId(undeclared)),
        ..owned_request()
    };
    let mut other_namespace = owned_request();
    other_namespace.namespace = "web".into();
    other_namespace.service_accounts = vec!["other".into()];
    assert_eq!(
        decide(&rig, None, &request).err(),
        decide(&rig, None, &other_namespace).err()
    );
}

#[test]
fn permit_without_a_scope_needs_a_registry_wide_grant() {
    let mut rig = rig();
    rig.policy.grants[0].registry_wide = true;
    let request = DockerConfigRequest {
        scopes: ScopeSet::default(),
        ..owned_request()
    };
    assert!(decide(&rig, None, &request).is_ok());
}

#[test]
fn permit_two_grants_of_half_each_are_none() {
    let mut rig = rig();
    rig.policy.grants[0].service_accounts = vec![Pattern::new("app")];
    let half = Grant {
        name: "other".into(),
        service_accounts: vec![Pattern::new("job-*")],
        clusters: vec!["weu-7".into()],
        namespaces: vec![Pattern::new("*")],
        identity: GrantedIdentity::BrokerOwned("team-web".into()),
        registries: vec!["prod.azurecr.io".parse().unwrap()],
        repositories: vec![Pattern::new("*")],
        actions: vec!["pull".into()],
        registry_wide: false,
    };
    rig.policy.grants.push(half);
    let request = DockerConfigRequest {
        service_accounts: vec!["app".into(), "job-1".into()],
        ..owned_request()
    };
    assert!(matches!(
        decide(&rig, None, &request),
        Err(Denied::NoGrant { .. })
    ));
}

#[test]
fn permit_grant_of_another_cluster_is_none() {
    let mut rig = rig();
    with_cluster(&mut rig, |cluster| cluster.name = "weu-8".into());
    assert!(matches!(
        decide(&rig, None, &owned_request()),
        Err(Denied::NoGrant { .. })
    ));
}

#[test]
fn permit_federated_takes_the_default_tenant() {
    let rig = rig();
    let permit = decide(&rig, Some(&subject("web")), &federated_request())
        .ok()
        .unwrap();
    let TokenSource::Federated {
        tenant,
        subject,
        cluster,
        ..
    } = permit.source()
    else {
        panic!("federated")
    };
    assert_eq!(
        (tenant.as_str(), &**subject, &**cluster),
        (TENANT, "system:serviceaccount:web:app", "weu-7")
    );
    assert_eq!(permit.decision(), &Decision::NotNeeded);
}

#[test]
fn permit_federated_refusals() {
    let mut rig = rig();
    assert_eq!(
        decide(&rig, Some(&subject("other")), &federated_request()).err(),
        Some(Denied::OtherNamespace("web".into()))
    );
    assert!(
        decide(&rig, None, &federated_request()).is_err(),
        "nobody to act for"
    );
    with_cluster(&mut rig, |cluster| {
        cluster.tenant_ceiling = vec!["44444444-4444-4444-4444-444444444444".parse().unwrap()];
    });
    assert!(matches!(
        decide(&rig, Some(&subject("web")), &federated_request()),
        Err(Denied::TenantCeiling(_))
    ));
    with_cluster(&mut rig, |cluster| {
        cluster.tenant_ceiling.clear();
        cluster.default_tenant = None;
    });
    assert_eq!(
        decide(&rig, Some(&subject("web")), &federated_request()).err(),
        Some(Denied::NoTenant)
    );
}

#[test]
fn e1_registry_outside_the_cloud_or_the_ceiling_is_denied() {
    let mut rig = rig();
    for registry in [
        "prod.azurecr.us",
        "prod.azurecr.io.evil.example",
        "evilazurecr.io",
    ] {
        let request = DockerConfigRequest {
            registry: registry.parse().unwrap(),
            ..federated_request()
        };
        assert!(
            matches!(
                decide(&rig, Some(&subject("web")), &request),
                Err(Denied::RegistryDomain { .. })
            ),
            "{registry}"
        );
    }
    with_cluster(&mut rig, |cluster| {
        cluster.registry_ceiling = vec!["only.azurecr.io".parse().unwrap()];
    });
    assert!(matches!(
        decide(&rig, Some(&subject("web")), &federated_request()),
        Err(Denied::RegistryCeiling(_))
    ));
    let request = DockerConfigRequest {
        cloud: CloudReference {
            name: "AirgappedCloud".into(),
            authority_host: "https://evil.example".into(),
        },
        ..federated_request()
    };
    assert_eq!(
        decide(&rig, Some(&subject("web")), &request).err(),
        Some(Denied::Cloud)
    );
}

#[test]
fn permit_held_times_do_not_matter_to_the_decision() {
    let mut request = owned_request();
    request.wish.held = Some(crate::request::Held {
        fingerprint: proto::Fingerprint::of(b"x"),
        expires_at: UNIX_EPOCH,
    });
    assert!(decide(&rig(), None, &request).is_ok());
}
