//! A request as it came over the wire, to one in which every field is parsed. Names the first field that is wrong.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proto::{
    Fingerprint,
    types::{AzureId, RegistryHost, ResourceId, Scope, ScopeSet, TenantId},
    v1::{self, broker_owned_identity::Selector, get_docker_config_request::Identity},
};
use runtime::Secret;

use crate::names;

/// ServiceAccounts and scopes of one request at most.
const MAX_ENTRIES: usize = 64;
/// A UUID has 36; what Kubernetes writes there is opaque (apimachinery `types.UID`).
const MAX_UID_CHARS: usize = 128;

/// 2100-01-01, since 1970. A later expiry is no expiry, and arithmetic with it could overflow.
const LATEST_EXPIRY: Duration = Duration::from_secs(4_102_444_800);

/// `GetDockerConfigRequest`, parsed.
pub struct DockerConfigRequest {
    /// Namespace of the binding: the boundary that grants are about.
    pub namespace: String,
    /// Name of the binding, for logs.
    pub binding: String,
    /// Its UID, for the audit.
    pub binding_uid: String,
    /// ServiceAccounts that will be linked to the Secret.
    pub service_accounts: Vec<String>,
    /// Where the token will be used.
    pub registry: RegistryHost,
    /// What it may do there.
    pub scopes: ScopeSet,
    /// Which cloud.
    pub cloud: CloudReference,
    /// Whose rights.
    pub identity: RequestedIdentity,
    /// How good the answer must be.
    pub wish: Wish,
}

/// The cloud as the request names it.
#[derive(Debug, Default)]
pub struct CloudReference {
    /// Its name.
    pub name: String,
    /// Its authority, for a cloud of the operator's own.
    pub authority_host: String,
}

/// Whose rights the token is to carry.
pub enum RequestedIdentity {
    /// An identity that trusts a ServiceAccount of the cluster.
    Federated {
        /// Its tenant; the cluster's default when absent.
        tenant: Option<TenantId>,
        /// Its client ID.
        client: AzureId,
        /// The ServiceAccount's token.
        subject_token: Secret,
    },
    /// An identity of the broker.
    BrokerOwned(IdentitySelector),
}

/// How a request names a broker-owned identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySelector {
    /// By client ID.
    ClientId(AzureId),
    /// By resource ID.
    ResourceId(ResourceId),
}

/// What the caller has, and what it needs.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The least time that must remain; the default is a share of the lifetime.
    pub min_remaining: Option<Duration>,
    /// What the caller holds.
    pub held: Option<Held>,
    /// A payload that the registry refused.
    pub rejected: Option<Fingerprint>,
    /// Ask Azure again even if an error is remembered.
    pub force: bool,
}

/// A payload that the caller holds.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Which.
    pub fingerprint: Fingerprint,
    /// Until when it is good, as the caller was told.
    pub expires_at: SystemTime,
}

/// A field that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidField {
    /// Its path in the request.
    pub field: &'static str,
    /// What is wrong and what it should be.
    pub problem: String,
}

/// Whether a federated request must show the ServiceAccount's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectToken {
    /// To act.
    Required,
    /// To explain what would be done.
    Optional,
}

impl InvalidField {
    /// What is wrong with `field`.
    pub fn new(field: &'static str, problem: impl fmt::Display) -> Self {
        Self {
            field,
            problem: problem.to_string(),
        }
    }
}

impl TryFrom<v1::GetDockerConfigRequest> for DockerConfigRequest {
    type Error = InvalidField;

    fn try_from(message: v1::GetDockerConfigRequest) -> Result<Self, Self::Error> {
        Self::parse(message, SubjectToken::Required)
    }
}

impl TryFrom<v1::GetAccessTokenRequest> for DockerConfigRequest {
    type Error = InvalidField;

    fn try_from(message: v1::GetAccessTokenRequest) -> Result<Self, Self::Error> {
        Self::try_from(docker_config_request(message))
    }
}

impl DockerConfigRequest {
    /// Parses every field.
    ///
    /// # Errors
    /// The first that is not valid.
    pub fn parse(
        message: v1::GetDockerConfigRequest,
        subject_token: SubjectToken,
    ) -> Result<Self, InvalidField> {
        let v1::GetDockerConfigRequest {
            binding,
            service_accounts,
            registry,
            scopes,
            cloud,
            identity,
            min_remaining,
            held,
            rejected_fingerprint,
            force,
        } = message;
        let v1::BindingReference { namespace, name, uid } =
            binding.ok_or_else(|| InvalidField::new("binding", "must be set"))?;
        if !names::is_namespace(&namespace) {
            return Err(InvalidField::new(
                "binding.namespace",
                "must be the name of a namespace",
            ));
        }
        object_name("binding.name", &name)?;
        if uid.len() > MAX_UID_CHARS {
            return Err(InvalidField::new(
                "binding.uid",
                "must have at most 128 characters",
            ));
        }
        if service_accounts.is_empty() || service_accounts.len() > MAX_ENTRIES {
            return Err(InvalidField::new("service_accounts", "must have 1 to 64 entries"));
        }
        for account in &service_accounts {
            object_name("service_accounts", account)?;
        }
        if scopes.len() > MAX_ENTRIES {
            return Err(InvalidField::new("scopes", "must have at most 64 entries"));
        }
        let v1::CloudReference {
            name: cloud_name,
            authority_host,
        } = cloud.unwrap_or_default();
        Ok(Self {
            namespace,
            binding: name,
            binding_uid: uid,
            service_accounts,
            registry: parse("registry", &registry)?,
            scopes: scopes
                .iter()
                .map(|scope| parse::<Scope>("scopes", scope))
                .collect::<Result<_, _>>()?,
            cloud: CloudReference {
                name: cloud_name,
                authority_host,
            },
            identity: identity_from(identity, subject_token)?,
            wish: Wish {
                min_remaining: min_remaining.map(duration).transpose()?,
                held: held.map(held_from).transpose()?,
                rejected: match rejected_fingerprint.as_ref() {
                    [] => None,
                    bytes => Some(fingerprint("rejected_fingerprint", bytes)?),
                },
                force,
            },
        })
    }
}

/// The two messages have the same fields; only what they are answered with differs.
fn docker_config_request(message: v1::GetAccessTokenRequest) -> v1::GetDockerConfigRequest {
    use v1::get_access_token_request::Identity as Wanted;
    let v1::GetAccessTokenRequest {
        binding,
        service_accounts,
        registry,
        scopes,
        cloud,
        identity,
        min_remaining,
        held,
        rejected_fingerprint,
        force,
    } = message;
    v1::GetDockerConfigRequest {
        binding,
        service_accounts,
        registry,
        scopes,
        cloud,
        identity: identity.map(|identity| match identity {
            Wanted::Federated(federated) => Identity::Federated(federated),
            Wanted::BrokerOwned(owned) => Identity::BrokerOwned(owned),
        }),
        min_remaining,
        held,
        rejected_fingerprint,
        force,
    }
}

fn identity_from(
    identity: Option<Identity>,
    demand: SubjectToken,
) -> Result<RequestedIdentity, InvalidField> {
    match identity {
        None => Err(InvalidField::new("identity", "must be federated or broker_owned")),
        Some(Identity::Federated(mut federated)) => {
            let subject_token = Secret::from(std::mem::take(&mut federated.subject_token));
            if subject_token.is_empty() && demand == SubjectToken::Required {
                return Err(InvalidField::new("federated.subject_token", "must be set"));
            }
            let tenant = match federated.tenant_id.as_str() {
                "" => None,
                text => Some(parse("federated.tenant_id", text)?),
            };
            Ok(RequestedIdentity::Federated {
                tenant,
                client: parse("federated.client_id", &federated.client_id)?,
                subject_token,
            })
        }
        Some(Identity::BrokerOwned(v1::BrokerOwnedIdentity { selector })) => match selector {
            Some(Selector::ClientId(id)) => parse("broker_owned.client_id", &id)
                .map(IdentitySelector::ClientId)
                .map(RequestedIdentity::BrokerOwned),
            Some(Selector::ResourceId(id)) => parse("broker_owned.resource_id", &id)
                .map(IdentitySelector::ResourceId)
                .map(RequestedIdentity::BrokerOwned),
            // An empty selector would mean "the default identity of the broker's host": never.
            None => Err(InvalidField::new(
                "broker_owned",
                "must name a client_id or a resource_id",
            )),
        },
    }
}

fn held_from(held: v1::HeldCredential) -> Result<Held, InvalidField> {
    let v1::HeldCredential {
        fingerprint: bytes,
        expire_time,
    } = held;
    let expires_at = expire_time
        .as_ref()
        .and_then(proto::time::from_timestamp)
        .filter(|at| {
            at.duration_since(UNIX_EPOCH)
                .is_ok_and(|since| since < LATEST_EXPIRY)
        })
        .ok_or_else(|| InvalidField::new("held.expire_time", "must be a time before the year 2100"))?;
    Ok(Held {
        fingerprint: fingerprint("held.fingerprint", &bytes)?,
        expires_at,
    })
}

fn fingerprint(field: &'static str, bytes: &[u8]) -> Result<Fingerprint, InvalidField> {
    Fingerprint::try_from(bytes).map_err(|error| InvalidField::new(field, error))
}

fn duration(duration: pbjson_types::Duration) -> Result<Duration, InvalidField> {
    proto::time::from_duration(&duration)
        .ok_or_else(|| InvalidField::new("min_remaining", "must not be negative"))
}

fn parse<T: std::str::FromStr<Err: fmt::Display>>(
    field: &'static str,
    text: &str,
) -> Result<T, InvalidField> {
    text.parse()
        .map_err(|error: T::Err| InvalidField::new(field, error))
}

fn object_name(field: &'static str, name: &str) -> Result<(), InvalidField> {
    if names::is_object_name(name) {
        Ok(())
    } else {
        Err(InvalidField::new(
            field,
            "must be the name of a Kubernetes object",
        ))
    }
}

#[cfg(test)]
mod tests;
