//! Policies and requests as they are written down: a configuration as an operator writes it, a message as a caller sends it.

use serde_json::{Value, json};

use super::{
    simulated::{PRIVATE_AUTHORITY, PRIVATE_SUFFIX, SUBJECT_AUDIENCE, TENANT, issuer, name_of, resource_id},
    terms::{Ask, Asked, Declared, Form, Grant, Rules, To, Who},
};

pub(crate) const CALLER_AUDIENCE: &str = "acrpull-broker";
pub(crate) const SYNCER: (&str, &str) = ("acrpull-system", "acrpull-syncer");
/// Of the first cluster.
pub(crate) const OPERATOR: (&str, &str) = ("platform", "operator");

/// Namespace and name of the caller.
pub(crate) fn caller(ask: &Ask) -> (&str, &str) {
    match &ask.caller {
        Who::Syncer => SYNCER,
        Who::Workload(namespace, name) => (namespace, name),
    }
}

/// The request with this token of its subject.
pub(crate) fn message(ask: &Ask, subject_token: &str) -> Value {
    let spelt = |text: &str| {
        if ask.spelling.is_loud {
            text.to_uppercase()
        } else {
            text.to_owned()
        }
    };
    let scopes_of = |actions: &str| {
        let scope = |name: &String| format!("repository:{name}:{actions}");
        ask.repositories.iter().map(scope).collect::<Vec<_>>()
    };
    let mut scopes = scopes_of(&ask.actions.join(","));
    scopes.extend(ask.other_scope.map(str::to_owned));
    let mut accounts = ask.service_accounts.clone();
    if ask.spelling.is_twice {
        accounts.extend_from_within(..);
        scopes.extend(ask.actions.iter().rev().flat_map(|action| scopes_of(action)));
    }
    let (cloud, authority) = ask.cloud;
    let mut message = json!({
        "binding": {"namespace": ask.namespace, "name": "binding"},
        "serviceAccounts": accounts,
        "registry": spelt(&ask.registry),
        "scopes": scopes,
        "cloud": {"name": cloud, "authorityHost": authority},
    });
    match &ask.identity {
        Asked::Owned { client, form } => {
            message["brokerOwned"] = match form {
                Form::ClientId => json!({"clientId": spelt(client)}),
                Form::ResourceId => json!({"resourceId": spelt(&resource_id(client))}),
            };
        }
        Asked::Federated { tenant, client, .. } => {
            message["federated"] = json!({
                "tenantId": spelt(tenant.as_deref().unwrap_or_default()),
                "clientId": spelt(client),
                "subjectToken": subject_token,
            });
        }
    }
    message
}

/// The configuration with these rules. `jwks` is what each cluster publishes.
pub(crate) fn document(rules: &Rules, jwks: impl Fn(usize) -> String) -> Value {
    let clusters: Vec<Value> = rules
        .clusters
        .iter()
        .enumerate()
        .map(|(number, cluster)| {
            let mut written = json!({
                "name": name_of(number), "issuer": issuer(number),
                "jwks": {"inline": jwks(number)},
                "callerAudiences": [CALLER_AUDIENCE], "subjectAudiences": [SUBJECT_AUDIENCE],
                "syncers": [format!("system:serviceaccount:{}:{}", SYNCER.0, SYNCER.1)],
                "defaultTenant": cluster.default_tenant,
                "grants": {"brokerOwned": cluster.broker_owned, "federated": cluster.federated},
                "ceilings": {},
            });
            for (ceiling, list) in [("tenants", &cluster.tenants), ("registries", &cluster.registries)] {
                if !list.is_empty() {
                    written["ceilings"][ceiling] = json!(list);
                }
            }
            if !cluster.workloads.is_empty() {
                written["workloads"] = json!({"namespaces": cluster.workloads});
            }
            if number == 0 {
                written["operators"] =
                    json!([format!("system:serviceaccount:{}:{}", OPERATOR.0, OPERATOR.1)]);
            }
            written
        })
        .collect();
    let grants = rules.grants.iter().enumerate();
    json!({
        "apiVersion": "config.acrpull.dev/v1alpha1", "kind": "BrokerConfiguration",
        "clusters": clusters,
        "clouds": [{
            "name": "Private",
            "authority": format!("https://{PRIVATE_AUTHORITY}"),
            "registrySuffixes": [PRIVATE_SUFFIX],
        }],
        "identities": rules.declared.iter().map(written_identity).collect::<Vec<_>>(),
        "grants": grants.map(|(number, grant)| written_grant(number, grant)).collect::<Vec<_>>(),
        "audit": {"sink": "off"},
    })
}

fn written_identity(identity: &Declared) -> Value {
    let Declared { client, forms } = identity;
    let mut written = json!({"name": client, "tenant": TENANT, "source": "imds"});
    for form in *forms {
        match form {
            Form::ClientId => written["clientId"] = json!(client),
            // In another case than that of most requests.
            Form::ResourceId => written["resourceId"] = json!(resource_id(client).to_uppercase()),
        }
    }
    written
}

fn written_grant(number: usize, grant: &Grant) -> Value {
    let clusters: Vec<String> = grant.clusters.iter().map(|cluster| name_of(*cluster)).collect();
    let mut written = json!({
        "name": format!("grant-{number}"), "clusters": clusters, "namespaces": grant.namespaces,
        "serviceAccounts": grant.service_accounts, "registries": grant.registries,
        "repositories": grant.repositories, "actions": grant.actions, "registryWide": grant.registry_wide,
    });
    match &grant.to {
        To::Owned { client } => written["identity"] = json!(client),
        To::Federated {
            cloud,
            tenants,
            clients,
        } => {
            let clients: Vec<String> = clients.iter().map(|client| client.to_uppercase()).collect();
            written["federated"] = json!({"cloud": cloud, "tenants": tenants, "clientIds": clients});
        }
    }
    written
}
