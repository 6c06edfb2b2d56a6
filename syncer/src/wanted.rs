//! What a binding asks for, parsed and resolved: registry, scopes, cloud, and the identity, which may be named by
//! the ServiceAccount instead of the binding. Pure; whatever gets past here is well-formed.

use k8s_openapi::api::core::v1::ServiceAccount;
use proto::{
    Reason,
    types::{AzureId, RegistryHost, ResourceId, ScopeSet, TenantId},
    v1::CloudReference,
};

use crate::{
    crd::{AcrPullBindingSpec, ManagedIdentityAuth, WorkloadIdentityAuth},
    inputs::{self, ResolvedIdentity},
    problem::Problem,
};

/// Names the identity of a ServiceAccount (Azure Workload Identity, "Service Account Annotations").
pub const CLIENT_ID_ANNOTATION: &str = "azure.workload.identity/client-id";
/// Names the tenant of that identity; optional there and here.
pub const TENANT_ID_ANNOTATION: &str = "azure.workload.identity/tenant-id";

const CLIENT_ID_FIELD: &str = "spec.auth.workloadIdentity.clientID";
const TENANT_ID_FIELD: &str = "spec.auth.workloadIdentity.tenantID";

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

impl AcrPullBindingSpec {
    /// The ServiceAccount that says which identity to use and whose token proves it, if there is one.
    pub fn identity_account(&self) -> Option<&str> {
        self.auth
            .workload_identity
            .as_ref()
            .map(|identity| identity.service_account_ref.as_str())
    }
}

/// Reads the spec. `account` is the ServiceAccount that [`AcrPullBindingSpec::identity_account`] names, if it exists.
///
/// # Errors
/// The reason is `InvalidSpec`, `ServiceAccountNotFound` or `IdentityAnnotationMissing`.
pub fn read(spec: &AcrPullBindingSpec, account: Option<&ServiceAccount>) -> Result<Wanted, Problem> {
    let registry = parse("spec.acr.server", &spec.acr.server)?;
    let scopes = ScopeSet::from_field(&spec.acr.scope).map_err(|error| invalid("spec.acr.scope", &error))?;
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
        (Some(identity), None) => broker_owned(identity)?,
        (None, Some(identity)) => federated(identity, account)?,
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

fn broker_owned(identity: &ManagedIdentityAuth) -> Result<Identity, Problem> {
    match (&identity.client_id, &identity.resource_id) {
        (Some(id), None) => Ok(Identity::ClientId(parse(
            "spec.auth.managedIdentity.clientID",
            id,
        )?)),
        (None, Some(id)) => Ok(Identity::ResourceId(parse(
            "spec.auth.managedIdentity.resourceID",
            id,
        )?)),
        (None, None) | (Some(_), Some(_)) => {
            let rule = "spec.auth.managedIdentity must have exactly one of clientID and resourceID";
            Err(Problem::new(Reason::InvalidSpec, rule))
        }
    }
}

fn federated(identity: &WorkloadIdentityAuth, account: Option<&ServiceAccount>) -> Result<Identity, Problem> {
    let service_account = identity.service_account_ref.clone();
    let Some(account) = account else {
        return Err(Problem::new(
            Reason::ServiceAccountNotFound,
            format!("ServiceAccount {service_account} of spec.auth.workloadIdentity does not exist"),
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
mod tests {
    use super::*;
    use crate::samples::{account, annotated_account, managed_identity_spec, workload_identity_spec};

    const CLIENT: &str = "33333333-3333-3333-3333-000000000001";
    const TENANT: &str = "22222222-2222-2222-2222-222222222222";

    fn reason_of(spec: &AcrPullBindingSpec, account: Option<&ServiceAccount>) -> Reason {
        read(spec, account).unwrap_err().reason
    }

    #[test]
    fn wanted_annotation_with_client_id_alone_is_enough() {
        let wanted = read(&workload_identity_spec(), Some(&annotated_account("puller"))).unwrap();
        assert_eq!(
            wanted.identity,
            Identity::Federated {
                service_account: "puller".to_owned(),
                client_id: CLIENT.parse().unwrap(),
                tenant_id: None
            }
        );
        assert_eq!(wanted.scopes.to_field(), "repository:team/web:pull");
        assert_eq!(wanted.cloud.name, "PublicCloud");
    }

    #[test]
    fn wanted_spec_wins_over_annotations_as_a_pair() {
        let mut annotated = annotated_account("puller");
        annotated
            .metadata
            .annotations
            .as_mut()
            .unwrap()
            .insert(TENANT_ID_ANNOTATION.to_owned(), TENANT.to_owned());
        let mut spec = workload_identity_spec();
        let identity = spec.auth.workload_identity.as_mut().unwrap();
        identity.client_id = Some("33333333-3333-3333-3333-000000000002".to_owned());
        identity.tenant_id = Some("contoso.onmicrosoft.com".to_owned());
        let Identity::Federated {
            client_id, tenant_id, ..
        } = read(&spec, Some(&annotated)).unwrap().identity
        else {
            panic!("not federated");
        };
        assert_eq!(client_id.as_str(), "33333333-3333-3333-3333-000000000002");
        assert_eq!(tenant_id.unwrap().as_str(), "contoso.onmicrosoft.com");
    }

    #[test]
    fn wanted_change_of_an_annotation_changes_the_inputs() {
        let spec = workload_identity_spec();
        let before = annotated_account("puller");
        let mut after = before.clone();
        after
            .metadata
            .annotations
            .as_mut()
            .unwrap()
            .insert(TENANT_ID_ANNOTATION.to_owned(), TENANT.to_owned());
        assert_ne!(
            read(&spec, Some(&before)).unwrap().inputs,
            read(&spec, Some(&after)).unwrap().inputs
        );
    }

    #[test]
    fn wanted_account_missing_is_named() {
        assert_eq!(
            reason_of(&workload_identity_spec(), None),
            Reason::ServiceAccountNotFound
        );
    }

    #[test]
    fn wanted_annotation_missing_is_named() {
        assert_eq!(
            reason_of(&workload_identity_spec(), Some(&account("puller"))),
            Reason::IdentityAnnotationMissing
        );
    }

    #[test]
    fn wanted_field_that_does_not_parse_is_named() {
        for (edit, field) in [
            (
                (|spec| spec.acr.server = "https://prod.azurecr.io".to_owned())
                    as fn(&mut AcrPullBindingSpec),
                "spec.acr.server",
            ),
            (
                |spec| spec.acr.scope = "repository:*:pull".to_owned(),
                "spec.acr.scope",
            ),
            (
                |spec| spec.auth.managed_identity.as_mut().unwrap().client_id = Some("x".to_owned()),
                "clientID",
            ),
            (
                |spec| spec.auth.managed_identity.as_mut().unwrap().client_id = None,
                "exactly one of clientID",
            ),
            (
                |spec| spec.auth.managed_identity = None,
                "exactly one of managedIdentity",
            ),
        ] {
            let mut spec = managed_identity_spec();
            edit(&mut spec);
            let problem = read(&spec, None).unwrap_err();
            assert_eq!(problem.reason, Reason::InvalidSpec);
            assert!(problem.message.contains(field), "{problem}");
        }
    }

    #[test]
    fn wanted_managed_identity_needs_no_account() {
        assert!(matches!(
            read(&managed_identity_spec(), None).unwrap().identity,
            Identity::ClientId(_)
        ));
    }
}
