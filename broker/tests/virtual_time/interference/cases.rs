//! Random policies and random requests, over names so few that they meet. Most requests aim at a grant, and miss it by one
//! field or by none; blind ones would be denied all alike.

use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop_oneof},
    sample::{select, subsequence},
};

use super::{
    simulated::{CLUSTERS, DOMAIN, FEDERATED, OTHER_TENANT, OWNED, TENANT},
    terms::{Ask, Asked, Cluster, Declared, Form, Grant, Rules, Spelling, To, Who},
};

const NAMESPACES: [&str; 3] = ["web", "web-2", "data"];
const NAMESPACE_PATTERNS: [&str; 5] = ["web", "web-*", "data", "*", "*2"];
const ACCOUNTS: [&str; 2] = ["app", "job"];
const ACCOUNT_PATTERNS: [&str; 3] = ["app", "j*", "*"];
const REGISTRIES: [&str; 3] = ["r0.azurecr.io", "r1.azurecr.io", "r2.azurecr.io"];
const REPOSITORIES: [&str; 3] = ["team/app", "data/app", "team/../data/app"];
const REPOSITORY_PATTERNS: [&str; 4] = ["team/*", "data/app", "*", "team/app"];
/// What Azure gives to everybody ...
pub(crate) const HAD: [&str; 2] = ["pull", "push"];
/// ... and what it does not.
const ACTIONS: [&str; 3] = ["pull", "push", "metadata_read"];
/// `*` is an action by itself, which nobody asks for.
const LISTED_ACTIONS: [&str; 4] = ["pull", "push", "metadata_read", "*"];
const OTHER_SCOPES: [&str; 2] = ["registry:catalog:*", "artifact-repository:team/app:pull"];
/// The registry of the private cloud.
const PRIVATE_REGISTRY: &str = "r0.azurecr.private.example";
/// Names and authorities: what the file knows, what is built in, and what nobody knows.
const CLOUDS: [(&str, &str); 8] = [
    ("", ""),
    ("PublicCloud", ""),
    ("USGovernmentCloud", ""),
    ("Private", ""),
    ("AirgappedCloud", "https://login.private.example"),
    ("AirgappedCloud", "https://LOGIN.private.example/"),
    ("AirgappedCloud", "https://login.elsewhere.example"),
    ("AirgappedCloud", "https://login.microsoftonline.com"),
];
const FORMS: [&[Form]; 3] = [
    &[Form::ClientId],
    &[Form::ResourceId],
    &[Form::ClientId, Form::ResourceId],
];

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
        (
            subsequence(OWNED.to_vec(), 1..=OWNED.len()),
            vec(select(&FORMS[..]), OWNED.len()),
        ),
        vec(grant(), 1..6),
    );
    (
        rules,
        vec(grant(), 0..4),
        vec((ask(), any::<u8>(), 0..26_u8), 5),
        vec(0..5_usize, 10),
    )
        .prop_map(|((clusters, declared, mut grants), mut others, asks, order)| {
            let (clients, forms) = declared;
            let declared: Vec<Declared> = clients
                .into_iter()
                .zip(forms)
                .map(|(client, forms)| Declared {
                    client: client.to_owned(),
                    forms,
                })
                .collect();
            // The file must make sense: no grant for an identity that is not declared.
            for grant in grants.iter_mut().chain(&mut others) {
                if let To::Owned { client } = &mut grant.to
                    && declared.iter().all(|identity| identity.client != *client)
                {
                    client.clone_from(&declared[0].client);
                }
            }
            let asks = asks
                .into_iter()
                .map(
                    |(blind, at, miss)| match grants.get(usize::from(at) % (grants.len() + 1)) {
                        Some(grant) => aimed(grant, &declared, &blind, miss),
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
fn aimed(grant: &Grant, declared: &[Declared], blind: &Ask, miss: u8) -> Ask {
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
                form: form_for(client, declared, blind),
            },
            To::Federated { tenants, clients, .. } => Asked::Federated {
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
    if miss != 11 {
        ask.cloud = match &grant.to {
            To::Federated { cloud: "Private", .. } => ("Private", ""),
            To::Federated { .. } | To::Owned { .. } => ("", ""),
        };
    }
    if miss != 12 {
        ask.other_scope = None;
    }
    if miss != 13
        && let Who::Workload(namespace, name) = &mut ask.caller
    {
        namespace.clone_from(&ask.namespace);
        name.clone_from(&ask.service_accounts[0]);
        // What a workload must not say.
        ask.spelling.is_twice &= miss == 14;
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

/// A form in which the identity is declared: the blind one, if it is among them.
fn form_for(client: &str, declared: &[Declared], blind: &Ask) -> Form {
    let forms = declared
        .iter()
        .find(|identity| identity.client == client)
        .map_or(FORMS[0], |identity| identity.forms);
    match blind.identity {
        Asked::Owned { form, .. } if forms.contains(&form) => form,
        Asked::Owned { .. } | Asked::Federated { .. } => forms[0],
    }
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let strict = |all: &'static [&'static str]| subsequence(all.to_vec(), 0..all.len());
    (
        select(&["enforce", "enforce", "enforce", "report"][..]),
        select(&["off", "report", "enforce", "enforce"][..]),
        subsequence(NAMESPACE_PATTERNS.to_vec(), 0..=4),
        option::of(tenant()),
        strict(&[TENANT, OTHER_TENANT, DOMAIN]),
        strict(&REGISTRIES),
    )
        .prop_map(
            |(broker_owned, federated, workloads, default_tenant, tenants, registries)| Cluster {
                broker_owned,
                federated,
                workloads: owned(workloads),
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
        (
            select(&["PublicCloud", "PublicCloud", "PublicCloud", "Private"][..]),
            some(&[TENANT, OTHER_TENANT, DOMAIN]),
            some(&FEDERATED)
        )
            .prop_map(|(cloud, tenants, clients)| To::Federated {
                cloud,
                tenants,
                clients
            }),
    ];
    (
        subsequence((0..CLUSTERS).collect::<Vec<_>>(), 1..=CLUSTERS),
        some(&NAMESPACE_PATTERNS),
        some(&ACCOUNT_PATTERNS),
        to,
        some(&REGISTRIES),
        some(&REPOSITORY_PATTERNS),
        actions(&LISTED_ACTIONS),
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
                registries: match &to {
                    To::Federated { cloud: "Private", .. } => vec![PRIVATE_REGISTRY.to_owned()],
                    To::Federated { .. } | To::Owned { .. } => registries,
                },
                to,
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
            PRIVATE_REGISTRY,
            "r0.azurecr.io.evil.example",
        ][..],
    );
    let place = (place, select(&CLOUDS[..]));
    let scopes = (
        subsequence(REPOSITORIES.to_vec(), 0..3),
        actions(&ACTIONS),
        option::weighted(0.2, select(&OTHER_SCOPES[..])),
    );
    let caller = option::weighted(0.3, (select(&NAMESPACES[..]), select(&ACCOUNTS[..])));
    let spelling =
        (any::<bool>(), any::<bool>()).prop_map(|(is_loud, is_twice)| Spelling { is_loud, is_twice });
    let who = (
        any::<bool>(),
        (
            select(&OWNED[..]),
            select(&[Form::ClientId, Form::ResourceId][..]),
        ),
        option::of(tenant()),
        select(&FEDERATED[..]),
        option::weighted(0.2, (0..CLUSTERS, select(&NAMESPACES[..]), select(&ACCOUNTS[..]))),
    );
    (place, registry, scopes, who, caller, spelling).prop_map(
        |(place, registry, (repositories, actions, other_scope), who, caller, spelling)| {
            let ((cluster, namespace, service_accounts), cloud) = place;
            let (is_owned, (identity, form), tenant, client, stranger) = who;
            let own = (cluster, namespace, ACCOUNTS[0]);
            let (of_cluster, of_namespace, name) = stranger.unwrap_or(own);
            let identity = if is_owned {
                Asked::Owned {
                    client: identity.to_owned(),
                    form,
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
                caller: caller.map_or(Who::Syncer, |(namespace, name)| {
                    Who::Workload(namespace.to_owned(), name.to_owned())
                }),
                namespace: namespace.to_owned(),
                service_accounts,
                cloud,
                registry: registry.to_owned(),
                repositories: owned(repositories),
                actions,
                other_scope,
                identity,
                spelling,
            }
        },
    )
}

fn tenant() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(TENANT.to_owned()), 2 => Just(OTHER_TENANT.to_owned()), 1 => Just(DOMAIN.to_owned())]
}

/// Mostly those that make a token.
fn actions(all: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![4 => some(&HAD), 1 => some(all)]
}

fn some(all: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    subsequence(all.to_vec(), 1..=all.len()).prop_map(owned)
}

fn owned(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}
