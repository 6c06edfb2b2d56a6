//! Random policies and random requests, over names so few that they meet. Most requests aim at a grant, and miss it by one
//! field or by none; blind ones would be denied all alike.

use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop_oneof},
    sample::{select, subsequence},
};

use super::{
    model::{Ask, Asked, Cluster, Grant, Rules, To},
    world::{CLUSTERS, DOMAIN, FEDERATED, OTHER_TENANT, OWNED, TENANT},
};

const NAMESPACES: [&str; 3] = ["web", "web-2", "data"];
const NAMESPACE_PATTERNS: [&str; 5] = ["web", "web-*", "data", "*", "*2"];
const ACCOUNTS: [&str; 2] = ["app", "job"];
const ACCOUNT_PATTERNS: [&str; 3] = ["app", "j*", "*"];
const REGISTRIES: [&str; 3] = ["r0.azurecr.io", "r1.azurecr.io", "r2.azurecr.io"];
const REPOSITORIES: [&str; 3] = ["team/app", "data/app", "team/../data/app"];
const REPOSITORY_PATTERNS: [&str; 4] = ["team/*", "data/app", "*", "team/app"];
const ACTIONS: [&str; 2] = ["pull", "push"];

/// A policy, another one's grants, and who asks for what, again and again.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) rules: Rules,
    /// What somebody else may come to have.
    pub(crate) others: Vec<Grant>,
    pub(crate) asks: Vec<Ask>,
    /// In which order; most come more than once.
    pub(crate) order: Vec<usize>,
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let rules = (
        vec(cluster(), CLUSTERS),
        subsequence(OWNED.to_vec(), 1..=OWNED.len()),
        vec(grant(), 1..6),
    );
    (
        rules,
        vec(grant(), 0..4),
        vec((ask(), any::<u8>(), 0..12_u8), 5),
        vec(0..5_usize, 10),
    )
        .prop_map(|((clusters, declared, mut grants), mut others, asks, order)| {
            let declared: Vec<String> = declared.into_iter().map(str::to_owned).collect();
            // The file must make sense: no grant for an identity that is not declared.
            for grant in grants.iter_mut().chain(&mut others) {
                if let To::Owned { client } = &mut grant.to
                    && !declared.contains(client)
                {
                    client.clone_from(&declared[0]);
                }
            }
            let asks = asks
                .into_iter()
                .map(
                    |(blind, at, miss)| match grants.get(usize::from(at) % (grants.len() + 1)) {
                        Some(grant) => aimed(grant, &blind, miss),
                        None => blind,
                    },
                )
                .collect();
            Case {
                rules: Rules {
                    clusters,
                    declared,
                    grants,
                },
                others,
                asks,
                order,
            }
        })
}

/// A request that `grant` allows, but for one field that is as blind as it was, or asks for more.
fn aimed(grant: &Grant, blind: &Ask, miss: u8) -> Ask {
    let mut ask = blind.clone();
    let fitting = |names: &[&str], patterns: &[String]| {
        let fits = |name: &&&str| {
            patterns
                .iter()
                .any(|pattern| pattern == **name || pattern.contains('*'))
        };
        (*names.iter().find(fits).unwrap_or(&names[0])).to_owned()
    };
    if miss != 1 {
        ask.cluster = grant.clusters[0];
    }
    if miss != 2 {
        ask.namespace = fitting(&NAMESPACES, &grant.namespaces);
    }
    if miss != 3 {
        ask.service_accounts = vec![fitting(&ACCOUNTS, &grant.service_accounts)];
    }
    if miss != 4 {
        ask.registry.clone_from(&grant.registries[0]);
    }
    if miss != 5 {
        ask.repositories = if grant.registry_wide {
            Vec::new()
        } else {
            vec![fitting(&REPOSITORIES, &grant.repositories)]
        };
        ask.actions.clone_from(&grant.actions);
    }
    if miss != 6 {
        ask.identity = match &grant.to {
            To::Owned { client } => Asked::Owned {
                client: client.clone(),
            },
            To::Federated { tenants, clients } => Asked::Federated {
                tenant: Some(tenants[0].clone()),
                client: clients[0].clone(),
                subject: (
                    ask.cluster,
                    ask.namespace.clone(),
                    ask.service_accounts[0].clone(),
                ),
            },
        };
    }
    if miss == 9 {
        ask.actions = owned(ACTIONS.to_vec());
    }
    if miss == 10 {
        ask.service_accounts = owned(ACCOUNTS.to_vec());
    }
    if let (7 | 8, Asked::Federated { subject, .. }) = (miss, &mut ask.identity) {
        // The token of an account that is not among those of the request.
        ACCOUNTS[usize::from(subject.2 == ACCOUNTS[0])].clone_into(&mut subject.2);
    }
    ask
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let strict = |all: &'static [&'static str]| subsequence(all.to_vec(), 0..all.len());
    (
        select(&["enforce", "enforce", "enforce", "report"][..]),
        select(&["off", "report", "enforce", "enforce"][..]),
        option::of(tenant()),
        strict(&[TENANT, OTHER_TENANT, DOMAIN]),
        strict(&REGISTRIES),
    )
        .prop_map(
            |(broker_owned, federated, default_tenant, tenants, registries)| Cluster {
                broker_owned,
                federated,
                default_tenant,
                tenants: owned(tenants),
                registries: owned(registries),
            },
        )
}

fn grant() -> impl Strategy<Value = Grant> {
    let to = prop_oneof![
        select(&OWNED[..]).prop_map(|client| To::Owned {
            client: client.to_owned()
        }),
        (some(&[TENANT, OTHER_TENANT, DOMAIN]), some(&FEDERATED))
            .prop_map(|(tenants, clients)| To::Federated { tenants, clients }),
    ];
    (
        subsequence((0..CLUSTERS).collect::<Vec<_>>(), 1..=CLUSTERS),
        some(&NAMESPACE_PATTERNS),
        some(&ACCOUNT_PATTERNS),
        to,
        some(&REGISTRIES),
        some(&REPOSITORY_PATTERNS),
        some(&ACTIONS),
        any::<bool>(),
    )
        .prop_map(
            |(
                clusters,
                namespaces,
                service_accounts,
                to,
                registries,
                repositories,
                actions,
                registry_wide,
            )| Grant {
                clusters,
                namespaces,
                service_accounts,
                to,
                registries,
                repositories,
                actions,
                registry_wide,
            },
        )
}

fn ask() -> impl Strategy<Value = Ask> {
    let place = (0..CLUSTERS, select(&NAMESPACES[..]), some(&ACCOUNTS));
    let registry = select(
        &[
            "r0.azurecr.io",
            "r1.azurecr.io",
            "r2.azurecr.io",
            "r0.azurecr.us",
            "r0.azurecr.io.evil.example",
        ][..],
    );
    let scopes = (subsequence(REPOSITORIES.to_vec(), 0..3), some(&ACTIONS));
    let who = (
        any::<bool>(),
        select(&OWNED[..]),
        option::of(tenant()),
        select(&FEDERATED[..]),
        option::weighted(0.2, (0..CLUSTERS, select(&NAMESPACES[..]), select(&ACCOUNTS[..]))),
    );
    (place, registry, scopes, who).prop_map(|(place, registry, (repositories, actions), who)| {
        let (cluster, namespace, service_accounts) = place;
        let (is_owned, identity, tenant, client, stranger) = who;
        let own = (cluster, namespace, ACCOUNTS[0]);
        let (of_cluster, of_namespace, name) = stranger.unwrap_or(own);
        let identity = if is_owned {
            Asked::Owned {
                client: identity.to_owned(),
            }
        } else {
            Asked::Federated {
                tenant,
                client: client.to_owned(),
                subject: (of_cluster, of_namespace.to_owned(), name.to_owned()),
            }
        };
        Ask {
            cluster,
            namespace: namespace.to_owned(),
            service_accounts,
            registry: registry.to_owned(),
            repositories: owned(repositories),
            actions,
            identity,
        }
    })
}

fn tenant() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(TENANT.to_owned()), 2 => Just(OTHER_TENANT.to_owned()), 1 => Just(DOMAIN.to_owned())]
}

fn some(all: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    subsequence(all.to_vec(), 1..=all.len()).prop_map(owned)
}

fn owned(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}
