//! The policy once more, as `docs/configuration.md` tells it to the person who writes it: sets and loops, without a thought
//! for speed. It shares no code with the broker.

use super::terms::{Ask, Asked, Cluster, Declared, Grant, Rules, To, Who};

impl Rules {
    /// Whether it is answered, as far as the policy goes.
    pub(crate) fn allow(&self, ask: &Ask) -> bool {
        let cluster = &self.clusters[ask.cluster];
        let Some(cloud) = cloud_of(ask.cloud) else {
            return false;
        };
        if !cluster.admits(ask) || !ask.registry.ends_with(&format!(".{}", registries_of(cloud))) {
            return false;
        }
        if !cluster.registries.is_empty() && !cluster.registries.contains(&ask.registry) {
            return false;
        }
        let is_granted = self.grants.iter().any(|grant| grant.allows(ask, cluster));
        match &ask.identity {
            Asked::Owned { client, form } => {
                let is_meant =
                    |declared: &Declared| declared.client == *client && declared.forms.contains(form);
                cloud == "PublicCloud"
                    && self.declared.iter().any(is_meant)
                    && (is_granted || cluster.broker_owned == "report")
            }
            Asked::Federated { tenant, subject, .. } => {
                let (of_cluster, of_namespace, _name) = subject;
                if *of_cluster != ask.cluster || *of_namespace != ask.namespace {
                    return false;
                }
                let Some(tenant) = tenant.as_ref().or(cluster.default_tenant.as_ref()) else {
                    return false;
                };
                if !cluster.tenants.is_empty() && !cluster.tenants.contains(tenant) {
                    return false;
                }
                is_granted || cluster.federated != "enforce"
            }
        }
    }
}

impl Cluster {
    /// Whether the caller may ask this at all: a syncer anything, a workload for itself alone, in so many words.
    fn admits(&self, ask: &Ask) -> bool {
        let Who::Workload(namespace, name) = &ask.caller else {
            return true;
        };
        let is_own_subject = match &ask.identity {
            Asked::Owned { .. } => true,
            Asked::Federated { subject, .. } => {
                (subject.0, &subject.1, &subject.2) == (ask.cluster, namespace, name)
            }
        };
        any_matches(&self.workloads, namespace)
            && ask.namespace == *namespace
            && ask.service_accounts == [name.as_str()]
            && !ask.spelling.is_twice
            && is_own_subject
    }
}

/// The cloud that a request means, which may select an authority and never add one.
fn cloud_of(asked: (&str, &str)) -> Option<&'static str> {
    match asked {
        ("" | "PublicCloud", "") => Some("PublicCloud"),
        ("USGovernmentCloud", "") => Some("USGovernmentCloud"),
        ("Private", "")
        | ("AirgappedCloud", "https://login.private.example" | "https://LOGIN.private.example/") => {
            Some("Private")
        }
        _ => None,
    }
}

fn registries_of(cloud: &str) -> &'static str {
    match cloud {
        "Private" => "azurecr.private.example",
        "USGovernmentCloud" => "azurecr.us",
        _ => "azurecr.io",
    }
}

impl Grant {
    /// Whether it is about requests of this namespace of this cluster at all.
    pub(crate) fn is_about(&self, cluster: usize, namespace: &str) -> bool {
        self.clusters.contains(&cluster) && any_matches(&self.namespaces, namespace)
    }

    fn allows(&self, ask: &Ask, cluster: &Cluster) -> bool {
        let mut accounts = ask.service_accounts.clone();
        let identity_matches = match (&self.to, &ask.identity) {
            (To::Owned { client }, Asked::Owned { client: asked, .. }) => client == asked,
            (
                To::Federated {
                    cloud,
                    tenants,
                    clients,
                },
                Asked::Federated {
                    tenant,
                    client,
                    subject,
                },
            ) => {
                accounts.push(subject.2.clone());
                let tenant = tenant.as_ref().or(cluster.default_tenant.as_ref());
                cloud_of(ask.cloud) == Some(cloud)
                    && clients.contains(client)
                    && tenant.is_some_and(|tenant| tenants.contains(tenant))
            }
            _ => false,
        };
        let scope_matches = if ask.other_scope.is_some() {
            // Only scopes of repositories can match.
            false
        } else if ask.repositories.is_empty() {
            self.registry_wide
        } else {
            let is_one_name = |name: &String| !name.split('/').any(|part| part == "..");
            ask.repositories
                .iter()
                .all(|name| is_one_name(name) && any_matches(&self.repositories, name))
                && ask.actions.iter().all(|action| self.actions.contains(action))
        };
        identity_matches
            && scope_matches
            && self.is_about(ask.cluster, &ask.namespace)
            && accounts
                .iter()
                .all(|account| any_matches(&self.service_accounts, account))
            && self.registries.contains(&ask.registry)
    }
}

fn any_matches(patterns: &[String], text: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| matches(pattern.as_bytes(), text.as_bytes()))
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        Some((first, rest)) => text.first() == Some(first) && matches(rest, &text[1..]),
    }
}
