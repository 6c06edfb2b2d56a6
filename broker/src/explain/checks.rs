//! The checks that the policy makes of a request, in the order in which [`authz`](crate::authz) makes them, in words.
//! Decides nothing.

use crate::{
    authn::{Caller, Subject},
    authz::{
        self, Denied, Permit, TokenSource,
        grants::{AskedIdentity, Decision},
        nearest::{Near, nearest},
    },
    config::{Clouds, GrantMode, Policy},
    request::{DockerConfigRequest, IdentitySelector, RequestedIdentity},
};

/// Grants that an explanation names at most; more than this nobody reads.
const MAX_NAMED_GRANTS: usize = 5;

/// What is checked, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Who asks.
    Caller,
    /// Every field.
    Request,
    /// The ServiceAccount's token.
    SubjectToken,
    /// A workload asks for itself.
    OwnAccount,
    /// The cloud is known.
    Cloud,
    /// The registry is of the cloud, and below the ceiling of the cluster.
    Registry,
    /// The ServiceAccount is of the binding's namespace.
    Namespace,
    /// There is one, below the ceiling of the cluster.
    Tenant,
    /// The identity is declared, and a grant allows all of it.
    Grant,
}

const FEDERATED: &[Check] = &[Check::Cloud, Check::Registry, Check::Namespace, Check::Tenant];
const FEDERATED_GRANTED: &[Check] = &[
    Check::Cloud,
    Check::Registry,
    Check::Namespace,
    Check::Tenant,
    Check::Grant,
];
const BROKER_OWNED: &[Check] = &[Check::Cloud, Check::Registry, Check::Grant];

impl Check {
    /// Those that the policy makes of this request.
    pub fn of(request: &DockerConfigRequest, caller: &Caller) -> &'static [Self] {
        match (&request.identity, caller.cluster.config.grant_modes.federated) {
            (RequestedIdentity::BrokerOwned(_), _) => BROKER_OWNED,
            (RequestedIdentity::Federated { .. }, None) => FEDERATED,
            (RequestedIdentity::Federated { .. }, Some(GrantMode::Enforce | GrantMode::Report)) => {
                FEDERATED_GRANTED
            }
        }
    }

    /// The one that says no.
    pub fn that_denies(denied: &Denied) -> Self {
        match denied {
            Denied::Cloud => Self::Cloud,
            Denied::RegistryDomain { .. } | Denied::RegistryCeiling(_) => Self::Registry,
            Denied::OtherNamespace(_) => Self::Namespace,
            Denied::NoTenant | Denied::TenantCeiling(_) => Self::Tenant,
            Denied::NoGrant { .. } => Self::Grant,
        }
    }

    /// Its name in the answer.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Request => "request",
            Self::SubjectToken => "subject_token",
            Self::OwnAccount => "own_account",
            Self::Cloud => "cloud",
            Self::Registry => "registry",
            Self::Namespace => "namespace",
            Self::Tenant => "tenant",
            Self::Grant => "grant",
        }
    }

    /// What it says when it says yes; `permit` is there once all of them have.
    pub fn passed_text(self, request: &DockerConfigRequest, permit: Option<&Permit>) -> String {
        match self {
            Self::Cloud => "the broker's configuration lists it".to_owned(),
            Self::Registry => format!("{} is one that this cluster may use", request.registry),
            Self::Namespace => format!(
                "the ServiceAccount is of the binding's namespace {}",
                request.namespace
            ),
            Self::Tenant => match permit.map(Permit::source) {
                Some(TokenSource::Federated { tenant, .. }) => {
                    format!("{tenant} is one that this cluster may use")
                }
                Some(TokenSource::BrokerOwned(_)) | None => "it is one that this cluster may use".to_owned(),
            },
            Self::Grant => match permit.map(Permit::decision) {
                Some(Decision::ReportOnly) => {
                    "no grant allows it: it would be denied, but the grants of this cluster are only reported"
                        .to_owned()
                }
                Some(Decision::Granted(_) | Decision::NotNeeded) | None => {
                    "a grant allows all of it".to_owned()
                }
            },
            Self::Caller | Self::Request | Self::SubjectToken | Self::OwnAccount => String::new(),
        }
    }
}

/// What there is where no grant allows a request. For operators: a caller must not learn what is granted to others.
pub(super) fn what_there_is(
    caller: &Caller,
    subject: Option<&Subject>,
    request: &DockerConfigRequest,
    clouds: &Clouds,
    policy: &Policy,
) -> String {
    let Ok(asked) = authz::asked(caller, subject, request, clouds, policy) else {
        return undeclared(request);
    };
    let near = nearest(&policy.grants, &asked, MAX_NAMED_GRANTS);
    let whose = match &asked.identity {
        AskedIdentity::BrokerOwned(identity) => format!("identity {}", identity.name),
        AskedIdentity::Federated { .. } => "federated identities".to_owned(),
    };
    if near.is_empty() {
        return format!("no grant is for {whose}");
    }
    let near: Vec<String> = near.iter().map(Near::to_string).collect();
    format!(
        "of the grants for {whose}, these come nearest: {}",
        near.join("; ")
    )
}

/// That nothing is declared by the id of the request in the cloud of the request.
pub fn undeclared(request: &DockerConfigRequest) -> String {
    match &request.identity {
        RequestedIdentity::BrokerOwned(IdentitySelector::ClientId(id)) => {
            format!("no identity with client id {id} is declared for this cloud")
        }
        RequestedIdentity::BrokerOwned(IdentitySelector::ResourceId(id)) => {
            format!("no identity with resource id {id} is declared for this cloud")
        }
        RequestedIdentity::Federated { .. } => "there is no ServiceAccount to act for".to_owned(),
    }
}
