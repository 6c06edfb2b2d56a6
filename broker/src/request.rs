//! A request as it came over the wire, to one in which every field is parsed. Names the first field that is wrong.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::{
    Fingerprint,
    types::{AzureId, RegistryHost, ResourceId, Scope, ScopeSet, TenantId},
    v1::{self, broker_owned_identity::Selector, get_docker_config_request::Identity},
};
use runtime::Secret;

/// ServiceAccounts and scopes of one request at most.
const MAX_ENTRIES: usize = 64;
/// Longest namespace and object names (RFC 1123 label and subdomain).
const MAX_NAMESPACE_CHARS: usize = 63;
const MAX_NAME_CHARS: usize = 253;

/// 2100-01-01, since 1970. A later expiry is no expiry, and arithmetic with it could overflow.
const LATEST_EXPIRY: Duration = Duration::from_secs(4_102_444_800);

/// `GetDockerConfigRequest`, parsed.
pub struct DockerConfigRequest {
    /// Namespace of the binding: the boundary that grants are about.
    pub namespace: String,
    /// Name of the binding, for logs.
    pub binding: String,
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

impl TryFrom<v1::GetDockerConfigRequest> for DockerConfigRequest {
    type Error = InvalidField;

    fn try_from(message: v1::GetDockerConfigRequest) -> Result<Self, Self::Error> {
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
        let v1::BindingReference {
            namespace,
            name,
            uid: _for_the_audit,
        } = binding.ok_or_else(|| invalid("binding", "must be set"))?;
        bounded_name("binding.namespace", &namespace, MAX_NAMESPACE_CHARS)?;
        bounded_name("binding.name", &name, MAX_NAME_CHARS)?;
        if service_accounts.is_empty() || service_accounts.len() > MAX_ENTRIES {
            return Err(invalid("service_accounts", "must have 1 to 64 entries"));
        }
        for account in &service_accounts {
            bounded_name("service_accounts", account, MAX_NAME_CHARS)?;
        }
        if scopes.len() > MAX_ENTRIES {
            return Err(invalid("scopes", "must have at most 64 entries"));
        }
        let v1::CloudReference {
            name: cloud_name,
            authority_host,
        } = cloud.unwrap_or_default();
        Ok(Self {
            namespace,
            binding: name,
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
            identity: identity_from(identity)?,
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

fn identity_from(identity: Option<Identity>) -> Result<RequestedIdentity, InvalidField> {
    match identity {
        None => Err(invalid("identity", "must be federated or broker_owned")),
        Some(Identity::Federated(v1::FederatedIdentity {
            tenant_id,
            client_id,
            subject_token,
        })) => {
            let subject_token = Secret::from(subject_token);
            if subject_token.is_empty() {
                return Err(invalid("federated.subject_token", "must be set"));
            }
            let tenant = match tenant_id.as_str() {
                "" => None,
                text => Some(parse("federated.tenant_id", text)?),
            };
            Ok(RequestedIdentity::Federated {
                tenant,
                client: parse("federated.client_id", &client_id)?,
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
            None => Err(invalid("broker_owned", "must name a client_id or a resource_id")),
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
        .ok_or_else(|| invalid("held.expire_time", "must be a time before the year 2100"))?;
    Ok(Held {
        fingerprint: fingerprint("held.fingerprint", &bytes)?,
        expires_at,
    })
}

fn fingerprint(field: &'static str, bytes: &[u8]) -> Result<Fingerprint, InvalidField> {
    Fingerprint::try_from(bytes).map_err(|error| invalid(field, error))
}

fn duration(duration: pbjson_types::Duration) -> Result<Duration, InvalidField> {
    proto::time::from_duration(&duration).ok_or_else(|| invalid("min_remaining", "must not be negative"))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    text: &str,
) -> Result<T, InvalidField> {
    text.parse().map_err(|error: T::Err| invalid(field, error))
}

fn bounded_name(field: &'static str, name: &str, max_chars: usize) -> Result<(), InvalidField> {
    let is_name = !name.is_empty()
        && name.len() <= max_chars
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    if is_name {
        Ok(())
    } else {
        Err(invalid(field, "must be the name of a Kubernetes object"))
    }
}

fn invalid(field: &'static str, problem: impl std::fmt::Display) -> InvalidField {
    InvalidField {
        field,
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> v1::GetDockerConfigRequest {
        v1::GetDockerConfigRequest {
            binding: Some(v1::BindingReference {
                namespace: "ns".into(),
                name: "app".into(),
                uid: String::new(),
            }),
            service_accounts: vec!["sa".into()],
            registry: "example.azurecr.io".into(),
            scopes: vec!["repository:team/app:pull".into()],
            identity: Some(Identity::BrokerOwned(v1::BrokerOwnedIdentity {
                selector: Some(Selector::ClientId("33333333-3333-3333-3333-000000000001".into())),
            })),
            ..v1::GetDockerConfigRequest::default()
        }
    }

    #[test]
    fn request_that_is_complete_parses() {
        let request = DockerConfigRequest::try_from(valid()).ok().unwrap();
        assert_eq!(request.namespace, "ns");
        assert_eq!(request.scopes.to_field(), "repository:team/app:pull");
        assert!(request.wish.held.is_none() && !request.wish.force);
    }

    #[test]
    fn request_with_a_bad_field_names_it() {
        type Break = fn(&mut v1::GetDockerConfigRequest);
        let cases: [(&str, Break); 12] = [
            ("binding", |r| r.binding = None),
            ("binding.namespace", |r| {
                r.binding.as_mut().unwrap().namespace = "a/b".into();
            }),
            ("binding.name", |r| r.binding.as_mut().unwrap().name.clear()),
            ("service_accounts", |r| r.service_accounts.clear()),
            ("service_accounts", |r| r.service_accounts = vec!["sa".into(); 65]),
            ("registry", |r| r.registry = "https://example.azurecr.io".into()),
            ("scopes", |r| r.scopes = vec!["repository:*:pull".into()]),
            ("identity", |r| r.identity = None),
            ("broker_owned", |r| {
                r.identity = Some(Identity::BrokerOwned(v1::BrokerOwnedIdentity::default()));
            }),
            ("federated.subject_token", |r| {
                r.identity = Some(Identity::Federated(v1::FederatedIdentity::default()));
            }),
            ("held.expire_time", |r| {
                r.held = Some(v1::HeldCredential::default());
            }),
            ("rejected_fingerprint", |r| {
                r.rejected_fingerprint = vec![1].into();
            }),
        ];
        for (field, break_it) in cases {
            let mut message = valid();
            break_it(&mut message);
            assert_eq!(DockerConfigRequest::try_from(message).err().unwrap().field, field);
        }
    }
}
