//! The policy once more, as `docs/configuration.md` tells it to the person who writes it: sets and loops, without a thought
//! for speed. It shares no code with the broker.

/// The configuration, as far as it decides.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) clusters: Vec<Cluster>,
    /// Client IDs of the identities that are declared.
    pub(crate) declared: Vec<String>,
    pub(crate) grants: Vec<Grant>,
}

#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// `enforce` or `report`.
    pub(crate) broker_owned: &'static str,
    /// `off`, `report` or `enforce`.
    pub(crate) federated: &'static str,
    pub(crate) default_tenant: Option<String>,
    pub(crate) tenants: Vec<String>,
    pub(crate) registries: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) clusters: Vec<usize>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) service_accounts: Vec<String>,
    pub(crate) to: To,
    pub(crate) registries: Vec<String>,
    pub(crate) repositories: Vec<String>,
    pub(crate) actions: Vec<String>,
    pub(crate) registry_wide: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum To {
    Owned {
        client: String,
    },
    Federated {
        tenants: Vec<String>,
        clients: Vec<String>,
    },
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) cluster: usize,
    pub(crate) namespace: String,
    pub(crate) service_accounts: Vec<String>,
    pub(crate) registry: String,
    pub(crate) repositories: Vec<String>,
    pub(crate) actions: Vec<String>,
    pub(crate) identity: Asked,
}

#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Owned {
        client: String,
    },
    Federated {
        tenant: Option<String>,
        client: String,
        /// Cluster, namespace and name of the ServiceAccount whose token is shown.
        subject: (usize, String, String),
    },
}

impl Rules {
    /// Whether it is answered, as far as the policy goes.
    pub(crate) fn allow(&self, ask: &Ask) -> bool {
        let cluster = &self.clusters[ask.cluster];
        if !ask.registry.ends_with(".azurecr.io") {
            return false;
        }
        if !cluster.registries.is_empty() && !cluster.registries.contains(&ask.registry) {
            return false;
        }
        let is_granted = self.grants.iter().any(|grant| grant.allows(ask, cluster));
        match &ask.identity {
            Asked::Owned { client } => {
                self.declared.contains(client) && (is_granted || cluster.broker_owned == "report")
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

impl Grant {
    /// Whether it is about requests of this namespace of this cluster at all.
    pub(crate) fn is_about(&self, cluster: usize, namespace: &str) -> bool {
        self.clusters.contains(&cluster) && any_matches(&self.namespaces, namespace)
    }

    fn allows(&self, ask: &Ask, cluster: &Cluster) -> bool {
        let mut accounts = ask.service_accounts.clone();
        let identity_matches = match (&self.to, &ask.identity) {
            (To::Owned { client }, Asked::Owned { client: asked }) => client == asked,
            (
                To::Federated { tenants, clients },
                Asked::Federated {
                    tenant,
                    client,
                    subject,
                },
            ) => {
                accounts.push(subject.2.clone());
                let tenant = tenant.as_ref().or(cluster.default_tenant.as_ref());
                clients.contains(client) && tenant.is_some_and(|tenant| tenants.contains(tenant))
            }
            _ => false,
        };
        let scope_matches = if ask.repositories.is_empty() {
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
