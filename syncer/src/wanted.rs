//! What a binding asks for, parsed and resolved: registry, scopes, cloud, and the identity, which may be named by
//! the ServiceAccount instead of the binding. Pure; whatever gets past here is well-formed.
//!
//! The two APIs differ here in the names of their fields, in what an empty scope means, and in which of two identities
//! counts.

use k8s_openapi::api::core::v1::ServiceAccount;
use proto::{
    Reason,
    types::{AzureId, RegistryHost, ResourceId, ScopeSet, TenantId},
    v1::CloudReference,
};

use crate::{
    binding::{ApiVersion, Binding},
    crd::{ManagedIdentityAuth, WorkloadIdentityAuth},
    inputs::{self, ResolvedIdentity},
    problem::Problem,
};

/// Names the identity of a ServiceAccount (Azure Workload Identity, "Service Account Annotations").
pub const CLIENT_ID_ANNOTATION: &str = "azure.workload.identity/client-id";
/// Names the tenant of that identity; optional there and here.
pub const TENANT_ID_ANNOTATION: &str = "azure.workload.identity/tenant-id";

const CLIENT_ID_FIELD: &str = "spec.auth.workloadIdentity.clientID";
const TENANT_ID_FIELD: &str = "spec.auth.workloadIdentity.tenantID";

/// The fields of an API, by what is in them.
struct Fields {
    server: &'static str,
    scope: &'static str,
    client_id: &'static str,
    resource_id: &'static str,
}

/// What to ask the broker for.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Where the token is for.
    pub registry: RegistryHost,
    /// What it may do.
    pub scopes: ScopeSet,
    /// In which cloud.
    pub cloud: CloudReference,
    /// Whose rights it carries.
    pub identity: Identity,
    /// Hash over all of the above and the rest of the spec.
    pub inputs: String,
}

/// Whose rights a token carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The broker's identity with this client ID.
    ClientId(AzureId),
    /// The broker's identity with this resource ID.
    ResourceId(ResourceId),
    /// The identity that trusts this ServiceAccount.
    Federated {
        /// The ServiceAccount, in the namespace of the binding.
        service_account: String,
        /// Client ID of the identity.
        client_id: AzureId,
        /// Its tenant; none means the default of the cluster.
        tenant_id: Option<TenantId>,
    },
}

impl ApiVersion {
    fn fields(self) -> Fields {
        match self {
            Self::V1Beta2 => Fields {
                server: "spec.acr.server",
                scope: "spec.acr.scope",
                client_id: "spec.auth.managedIdentity.clientID",
                resource_id: "spec.auth.managedIdentity.resourceID",
            },
            Self::V1Beta1 => Fields {
                server: "spec.acrServer",
                scope: "spec.scope",
                client_id: "spec.managedIdentityClientID",
                resource_id: "spec.managedIdentityResourceID",
            },
        }
    }
}

/// Reads the spec. `account` is the ServiceAccount that [`Binding::identity_account`] names, if it exists.
///
/// # Errors
/// The reason is `InvalidSpec`, `ServiceAccountNotFound` or `IdentityAnnotationMissing`.
pub fn read(binding: &Binding, account: Option<&ServiceAccount>) -> Result<Wanted, Problem> {
    let (api, spec) = (binding.api, &binding.spec);
    let fields = api.fields();
    if api == ApiVersion::V1Beta1 && spec.acr.server.is_empty() {
        let rule = format!(
            "{} is empty, and the syncer has no default (ACR_SERVER)",
            fields.server
        );
        return Err(Problem::new(Reason::InvalidSpec, rule));
    }
    let registry = parse(fields.server, &spec.acr.server)?;
    let scopes = ScopeSet::from_field(&spec.acr.scope).map_err(|error| invalid(fields.scope, &error))?;
    // In v1beta1 nothing means everything. Here it is a mistake that an older CRD lets through.
    if scopes.is_empty() && api == ApiVersion::V1Beta2 {
        let rule = format!("{} must name at least one scope", fields.scope);
        return Err(Problem::new(Reason::InvalidSpec, rule));
    }
    let authority = spec
        .acr
        .cloud_config
        .as_ref()
        .map(|cloud| cloud.entra_authority_host.clone());
    let cloud = CloudReference {
        name: spec.acr.environment.as_str().to_owned(),
        authority_host: authority.unwrap_or_default(),
    };
    let identity = match (&spec.auth.managed_identity, &spec.auth.workload_identity) {
        (Some(identity), None) => broker_owned(api, identity)?,
        (None, Some(identity)) => federated(binding, identity, account)?,
        (None, None) | (Some(_), Some(_)) => {
            let rule = "spec.auth must have exactly one of managedIdentity and workloadIdentity";
            return Err(Problem::new(Reason::InvalidSpec, rule));
        }
    };
    let inputs = inputs::full(spec, identity.resolved());
    Ok(Wanted {
        registry,
        scopes,
        cloud,
        identity,
        inputs,
    })
}

fn broker_owned(api: ApiVersion, identity: &ManagedIdentityAuth) -> Result<Identity, Problem> {
    let fields = api.fields();
    match (&identity.client_id, &identity.resource_id, api) {
        // The peer does not look at the resource ID then, so neither is it parsed here.
        (Some(id), None, _) | (Some(id), Some(_), ApiVersion::V1Beta1) => {
            Ok(Identity::ClientId(parse(fields.client_id, id)?))
        }
        (None, Some(id), _) => Ok(Identity::ResourceId(parse(fields.resource_id, id)?)),
        (None, None, ApiVersion::V1Beta1) => {
            let rule = "spec names no identity, and the syncer has no default (MANAGED_IDENTITY_CLIENT_ID, \
                        MANAGED_IDENTITY_RESOURCE_ID)";
            Err(Problem::new(Reason::InvalidSpec, rule))
        }
        (None, None, ApiVersion::V1Beta2) | (Some(_), Some(_), ApiVersion::V1Beta2) => {
            let rule = "spec.auth.managedIdentity must have exactly one of clientID and resourceID";
            Err(Problem::new(Reason::InvalidSpec, rule))
        }
    }
}

fn federated(
    binding: &Binding,
    identity: &WorkloadIdentityAuth,
    account: Option<&ServiceAccount>,
) -> Result<Identity, Problem> {
    let service_account = binding.identity_account().unwrap_or_default().to_owned();
    let Some(account) = account else {
        return Err(Problem::new(
            Reason::ServiceAccountNotFound,
            format!(
                "ServiceAccount {service_account} of {} does not exist",
                binding.account_ref.field()
            ),
        ));
    };
    let annotation = |key: &str| {
        let value = account
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(key));
        value.map(|value| value.trim()).filter(|value| !value.is_empty())
    };
    // The two of the spec go together; the tenant of the annotation belongs to the client of the annotation.
    let (client_id, tenant_id, [client_field, tenant_field]) = match identity.client_id.as_deref() {
        Some(client_id) => (
            Some(client_id),
            identity.tenant_id.as_deref(),
            [CLIENT_ID_FIELD, TENANT_ID_FIELD],
        ),
        None => (
            annotation(CLIENT_ID_ANNOTATION),
            annotation(TENANT_ID_ANNOTATION),
            [CLIENT_ID_ANNOTATION, TENANT_ID_ANNOTATION],
        ),
    };
    let Some(client_id) = client_id else {
        return Err(Problem::new(
            Reason::IdentityAnnotationMissing,
            format!(
                "ServiceAccount {service_account} lacks the annotation {CLIENT_ID_ANNOTATION}, and {CLIENT_ID_FIELD} is not set"
            ),
        ));
    };
    let client_id = parse(client_field, client_id)?;
    let tenant_id = tenant_id.map(|id| parse(tenant_field, id)).transpose()?;
    Ok(Identity::Federated {
        service_account,
        client_id,
        tenant_id,
    })
}

fn parse<T>(field: &str, text: &str) -> Result<T, Problem>
where
    T: std::str::FromStr,
    T::Err: std::error::Error,
{
    text.parse().map_err(|error| invalid(field, &error))
}

fn invalid(field: &str, error: &dyn std::error::Error) -> Problem {
    Problem::new(Reason::InvalidSpec, format!("{field} {error}"))
}

impl Identity {
    fn resolved(&self) -> Option<ResolvedIdentity<'_>> {
        match self {
            Self::ClientId(_) | Self::ResourceId(_) => None,
            Self::Federated {
                service_account: _,
                client_id,
                tenant_id,
            } => Some(ResolvedIdentity {
                client_id: client_id.as_str(),
                tenant_id: tenant_id.as_ref().map(TenantId::as_str),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
