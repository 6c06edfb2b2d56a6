//! Bindings as an application team writes them, and what their status says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use syncer::crd::{
    AcrConfiguration, AcrPullBinding, AcrPullBindingSpec, AuthenticationMethod, AzureEnvironment,
    ManagedIdentityAuth, WorkloadIdentityAuth,
};

/// A condition of a binding.
pub fn condition<'a>(binding: &'a AcrPullBinding, kind: &str) -> Option<&'a Condition> {
    binding
        .status
        .as_ref()?
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// A binding of the ServiceAccount `account` that proves itself by its own token.
pub fn workload_identity(name: &str, account: &str, registry: &str, scope: &str) -> AcrPullBinding {
    let workload_identity = WorkloadIdentityAuth {
        service_account_ref: account.to_owned(),
        client_id: None,
        tenant_id: None,
    };
    let auth = AuthenticationMethod {
        managed_identity: None,
        workload_identity: Some(workload_identity),
    };
    binding(name, account, registry, scope, auth)
}

/// A binding with an identity of the broker, by client ID.
pub fn client_id(name: &str, account: &str, registry: &str, scope: &str, client_id: &str) -> AcrPullBinding {
    let identity = ManagedIdentityAuth {
        client_id: Some(client_id.to_owned()),
        resource_id: None,
    };
    let auth = AuthenticationMethod {
        managed_identity: Some(identity),
        workload_identity: None,
    };
    binding(name, account, registry, scope, auth)
}

/// A binding with an identity of the broker, by resource ID.
pub fn resource_id(
    name: &str,
    account: &str,
    registry: &str,
    scope: &str,
    resource_id: &str,
) -> AcrPullBinding {
    let identity = ManagedIdentityAuth {
        client_id: None,
        resource_id: Some(resource_id.to_owned()),
    };
    let auth = AuthenticationMethod {
        managed_identity: Some(identity),
        workload_identity: None,
    };
    binding(name, account, registry, scope, auth)
}

fn binding(
    name: &str,
    account: &str,
    registry: &str,
    scope: &str,
    auth: AuthenticationMethod,
) -> AcrPullBinding {
    let acr = AcrConfiguration {
        server: registry.to_owned(),
        scope: scope.to_owned(),
        environment: AzureEnvironment::PublicCloud,
        cloud_config: None,
    };
    AcrPullBinding::new(
        name,
        AcrPullBindingSpec {
            acr,
            auth,
            service_account_name: account.to_owned(),
            service_account_names: Vec::new(),
        },
    )
}
