//! What a policy and a request consist of, as far as it decides. The rules are in [`model`](super::model).

/// The configuration, as far as it decides.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) declared: Vec<Declared>,
    pub(crate) grants: Vec<Grant>,
}

/// An identity of the broker, all of which are in the public cloud.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub(crate) client: String,
    /// How a request may name it: by its client ID, by its resource ID, or by either.
    pub(crate) forms: &'static [Form],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    ClientId,
    ResourceId,
}

#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// `enforce` or `report`.
    pub(crate) broker_owned: &'static str,
    /// `off`, `report` or `enforce`.
    pub(crate) federated: &'static str,
    /// Namespaces whose ServiceAccounts may ask for themselves; of none, if it is empty.
    pub(crate) workloads: Vec<String>,
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
        cloud: &'static str,
        tenants: Vec<String>,
        clients: Vec<String>,
    },
}

/// A request. Hosts and ids are in lower case here; what a [`Spelling`] makes of them means the same.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// Of the caller.
    pub(crate) cluster: usize,
    pub(crate) caller: Who,
    pub(crate) namespace: String,
    pub(crate) service_accounts: Vec<String>,
    /// Name and authority.
    pub(crate) cloud: (&'static str, &'static str),
    pub(crate) registry: String,
    pub(crate) repositories: Vec<String>,
    pub(crate) actions: Vec<String>,
    /// A scope of another kind besides.
    pub(crate) other_scope: Option<&'static str>,
    pub(crate) identity: Asked,
    pub(crate) spelling: Spelling,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Syncer,
    /// Namespace and name of a ServiceAccount.
    Workload(String, String),
}

/// How a request is written down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spelling {
    /// Hosts and ids in upper case.
    pub(crate) is_loud: bool,
    /// Every account and scope twice, the scopes action by action the second time.
    pub(crate) is_twice: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Owned {
        /// Its client ID, however it is named.
        client: String,
        form: Form,
    },
    Federated {
        tenant: Option<String>,
        client: String,
        /// Cluster, namespace and name of the ServiceAccount whose token is shown.
        subject: (usize, String, String),
    },
}
