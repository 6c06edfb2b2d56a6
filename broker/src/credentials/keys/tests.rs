//! Two requests share a key exactly when they mean the same: one that differs in anything that matters never gets what
//! was fetched for the other, and the texts of tokens do not matter.

use std::{collections::HashSet, sync::Arc};

use proptest::{prelude::*, sample::subsequence};
use runtime::Secret;

use super::*;
use crate::{
    authn::{Caller, Cluster, KeyStore, Subject},
    authz::permit,
    config::{
        Application, Clouds, ClusterConfig, DEFAULT_TOKEN_LIFETIME, Grant, GrantModes, GrantedIdentity,
        Identity, IdentitySource, JwksUrl, KeySource, Limits, Pattern, Policy, RegistryFence, Workloads,
    },
    request::{CloudReference, DockerConfigRequest, IdentitySelector, RequestedIdentity, Wish},
};

// Names that run into each other when they are only joined.
const CLUSTERS: [&str; 3] = ["a", "ab", "a:b"];
const ACCOUNTS: [&str; 3] = ["b", "ab", "a.b"];
const TENANTS: [&str; 2] = ["a.b", "a.bc"];
const CLIENTS: [&str; 2] = [
    "33333333-3333-3333-3333-000000000001",
    "33333333-3333-3333-3333-000000000002",
];
/// A token may be for one, for the other, or for both.
const AUDIENCES: [&[&str]; 3] = [&["api://a"], &["api://ab"], &["api://a", "api://ab"]];
/// Cloud and registry: a cloud allows its own registries only.
const REGISTRIES: [(&str, &str); 3] = [
    ("PublicCloud", "a.azurecr.io"),
    ("PublicCloud", "ab.azurecr.io"),
    ("ChinaCloud", "a.azurecr.cn"),
];
const SCOPES: [&str; 4] = [
    "repository:a:pull",
    "repository:ab:pull",
    "repository:a:push",
    "repository:a/b:pull",
];

/// What a request means, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Meaning {
    cloud: &'static str,
    who: Meant,
    registry: &'static str,
    scopes: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Meant {
    Federated {
        cluster: &'static str,
        account: &'static str,
        tenant: &'static str,
        client: &'static str,
        audiences: &'static [&'static str],
    },
    BrokerOwned {
        client: &'static str,
    },
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(values.to_vec())
}

fn meaning() -> impl Strategy<Value = Meaning> {
    let federated = (
        one_of(&CLUSTERS),
        one_of(&ACCOUNTS),
        one_of(&TENANTS),
        one_of(&CLIENTS),
        one_of(&AUDIENCES),
    )
        .prop_map(|(cluster, account, tenant, client, audiences)| Meant::Federated {
            cluster,
            account,
            tenant,
            client,
            audiences,
        });
    let owned = one_of(&CLIENTS).prop_map(|client| Meant::BrokerOwned { client });
    (
        one_of(&REGISTRIES),
        prop_oneof![federated, owned],
        subsequence(SCOPES.to_vec(), 0..=SCOPES.len()),
    )
        .prop_map(|((cloud, registry), who, scopes)| Meaning {
            cloud,
            who,
            registry,
            scopes,
        })
}

/// Asks as a caller of `own_cluster` would (it matters for federated identities alone), in a wording of its own.
fn key(meaning: &Meaning, own_cluster: &'static str, token: &str) -> AccessKey {
    let clouds = Clouds::new(Vec::new());
    let identities = REGISTRIES.iter().zip([0, 0, 1]).flat_map(|((cloud, _), number)| {
        let cloud = Arc::clone(clouds.named(cloud).unwrap());
        CLIENTS.map(|client| {
            Arc::new(Identity {
                name: format!("{number}-{client}").into(),
                cloud: Arc::clone(&cloud),
                tenant: TENANTS[0].parse().unwrap(),
                client_id: Some(client.parse().unwrap()),
                resource_id: None,
                source: IdentitySource::Imds,
                application: None,
            })
        })
    });
    let identities: Vec<_> = identities.collect();
    let grants = identities.iter().map(|identity| Grant {
        name: Arc::clone(&identity.name),
        clusters: CLUSTERS.map(str::to_owned).to_vec(),
        namespaces: vec![Pattern::new("*")],
        service_accounts: vec![Pattern::new("*")],
        identity: GrantedIdentity::BrokerOwned(Arc::clone(&identity.name)),
        registries: REGISTRIES.map(|(_, host)| host.parse().unwrap()).to_vec(),
        repositories: vec![Pattern::new("*")],
        actions: vec!["pull".to_owned(), "push".to_owned()],
        registry_wide: true,
    });
    let policy = Policy {
        grants: grants.collect(),
        identities,
    };
    let (cluster, identity, subject) = match &meaning.who {
        Meant::Federated {
            cluster,
            account,
            tenant,
            client,
            audiences,
        } => (
            *cluster,
            RequestedIdentity::Federated {
                tenant: Some(tenant.to_uppercase().parse().unwrap()),
                client: client.parse().unwrap(),
                subject_token: Secret::from(token.to_owned()),
            },
            Some(Subject {
                subject: format!("system:serviceaccount:shop:{account}").into(),
                namespace: "shop".into(),
                name: (*account).into(),
                audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
            }),
        ),
        Meant::BrokerOwned { client } => (
            own_cluster,
            RequestedIdentity::BrokerOwned(IdentitySelector::ClientId(client.parse().unwrap())),
            None,
        ),
    };
    let request = DockerConfigRequest {
        namespace: "shop".to_owned(),
        binding: token.to_owned(),
        binding_uid: String::new(),
        service_accounts: vec!["sa".to_owned()],
        registry: meaning.registry.to_uppercase().parse().unwrap(),
        scopes: meaning
            .scopes
            .iter()
            .rev()
            .map(|scope| scope.parse().unwrap())
            .collect(),
        cloud: CloudReference {
            name: meaning.cloud.to_owned(),
            authority_host: String::new(),
        },
        identity,
        wish: Wish::default(),
    };
    let permit = permit(&caller(cluster), subject.as_ref(), &request, &clouds, &policy);
    AccessKey::of(&permit.map_err(|denied| denied.to_string()).unwrap())
}

fn caller(cluster: &str) -> Caller {
    // All clusters have one issuer, as clusters that nobody configured otherwise do.
    let config = ClusterConfig {
        name: cluster.into(),
        issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
        keys: KeySource::Url(JwksUrl {
            url: "https://keys.example".parse().unwrap(),
            ca_bundle: None,
            token_file: None,
        }),
        caller_audiences: vec!["acrpull-broker".to_owned()],
        subject_audiences: vec!["api://AzureCRTokenExchange".to_owned()],
        max_token_lifetime: DEFAULT_TOKEN_LIFETIME,
        syncers: Vec::new(),
        operators: Vec::new(),
        client_certificates: Vec::new(),
        workloads: Workloads::default(),
        default_tenant: None,
        grant_modes: GrantModes::default(),
        tenant_ceiling: Vec::new(),
        registry_ceiling: Vec::new(),
        limits: Limits::default(),
    };
    Caller {
        cluster: Arc::new(Cluster {
            config,
            keys: KeyStore::default(),
        }),
        subject: "system:serviceaccount:acrpull-system:acrpull-syncer".into(),
        evidence: Arc::default(),
    }
}

proptest! {
    #[test]
    fn key_is_shared_exactly_by_requests_that_mean_the_same(one in meaning(), mut other in meaning(), mix: [bool; 4]) {
        // Independent requests are rarely alike: take over some parts.
        if mix[0] { (other.cloud, other.registry) = (one.cloud, one.registry); }
        if mix[1] || mix[2] { other.who = one.who.clone(); }
        if mix[3] { other.scopes = one.scopes.clone(); }
        let (key_one, key_other) = (key(&one, "a", "first"), key(&other, "ab", "second"));
        prop_assert_eq!(key_one == key_other, one == other);

        let same_identity = (one.cloud, &one.who) == (other.cloud, &other.who);
        prop_assert_eq!(key_one.registry.entra == key_other.registry.entra, same_identity);
        prop_assert_eq!(key_one.registry == key_other.registry, same_identity && one.registry == other.registry);
    }
}

#[test]
fn s4_key_stays_when_the_registries_of_its_cloud_are_narrowed_and_goes_with_any_other_change() {
    let clouds = Clouds::new(Vec::new());
    let public = clouds.named("PublicCloud").unwrap();
    let like_public = || Cloud {
        name: Arc::clone(&public.name),
        authority: public.authority.clone(),
        registries: RegistryFence::new(["a.azurecr.io".parse().unwrap()], []),
        registry_audience: public.registry_audience.clone(),
        federation_audience: public.federation_audience.clone(),
    };
    let keys = |cloud: &Arc<Cloud>| {
        let federated = TokenSource::Federated {
            cloud: Arc::clone(cloud),
            tenant: TENANTS[0].parse().unwrap(),
            client: CLIENTS[0].parse().unwrap(),
            cluster: "a".into(),
            issuer: "https://issuer.example".into(),
            subject: "system:serviceaccount:shop:b".into(),
            audiences: Arc::new(["api://a".to_owned()]),
            assertion: Secret::from("token".to_owned()),
        };
        let identity = Arc::new(Identity {
            name: "web".into(),
            cloud: Arc::clone(cloud),
            tenant: TENANTS[0].parse().unwrap(),
            client_id: Some(CLIENTS[0].parse().unwrap()),
            resource_id: None,
            source: IdentitySource::Imds,
            application: None,
        });
        [
            EntraKey::of(&federated),
            EntraKey::itself(&identity),
            EntraKey::of(&TokenSource::BrokerOwned(identity)),
        ]
    };
    let cached: HashSet<EntraKey> = keys(public).into();
    for key in keys(&Arc::new(like_public())) {
        assert!(cached.contains(&key), "{key:?}");
    }
    let changed = [
        Cloud {
            name: "Public".into(),
            ..like_public()
        },
        Cloud {
            authority: "https://login.example".parse().unwrap(),
            ..like_public()
        },
        Cloud {
            registry_audience: "https://management.azure.com/".to_owned(),
            ..like_public()
        },
        Cloud {
            federation_audience: None,
            ..like_public()
        },
    ];
    for cloud in changed.map(Arc::new) {
        for key in keys(&cloud) {
            assert!(!cached.contains(&key), "{key:?}");
        }
    }
}

#[test]
fn key_of_an_identity_itself_is_not_that_of_its_application_and_goes_with_it() {
    let clouds = Clouds::new(Vec::new());
    let identity = |name: &str, tenant: &str| {
        Arc::new(Identity {
            name: name.into(),
            cloud: Arc::clone(clouds.named("PublicCloud").unwrap()),
            tenant: TENANTS[0].parse().unwrap(),
            client_id: Some(CLIENTS[0].parse().unwrap()),
            resource_id: None,
            source: IdentitySource::Imds,
            application: Some(Application {
                tenant: tenant.parse().unwrap(),
                client: CLIENTS[1].parse().unwrap(),
                audience: "api://AzureADTokenExchange".to_owned(),
            }),
        })
    };
    let web = identity("web", TENANTS[0]);
    let (own, registries) = (
        EntraKey::itself(&web),
        EntraKey::of(&TokenSource::BrokerOwned(Arc::clone(&web))),
    );
    assert_ne!(own, registries, "a token for Entra is none for a registry");
    assert_eq!(own, EntraKey::itself(&identity("web", TENANTS[0])));
    assert_ne!(
        own,
        EntraKey::itself(&identity("web", TENANTS[1])),
        "after a change"
    );
    let by_identity = |name: &str| Invalidation {
        identity: Some(name.to_owned()),
        ..Invalidation::default()
    };
    for key in [&own, &registries] {
        assert!(key.matches(&by_identity("web")) && !key.matches(&by_identity("we")));
    }
}
