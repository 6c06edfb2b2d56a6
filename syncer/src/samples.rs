//! Objects for unit tests. Every field has a value of its own, so that a test sees when two are mixed up.

use k8s_openapi::{
    api::core::v1::ServiceAccount,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::Timestamp,
};

use crate::{
    crd::{
        AcrConfiguration, AcrPullBinding, AcrPullBindingSpec, AuthenticationMethod, AzureEnvironment,
        ManagedIdentityAuth, WorkloadIdentityAuth,
    },
    wanted::CLIENT_ID_ANNOTATION,
};

/// The time at which tests happen.
pub(crate) fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

pub(crate) fn workload_identity_spec() -> AcrPullBindingSpec {
    AcrPullBindingSpec {
        acr: AcrConfiguration {
            server: "prod.azurecr.io".to_owned(),
            scope: "repository:team/web:pull".to_owned(),
            environment: AzureEnvironment::PublicCloud,
            cloud_config: None,
        },
        auth: AuthenticationMethod {
            managed_identity: None,
            workload_identity: Some(WorkloadIdentityAuth {
                service_account_ref: "puller".to_owned(),
                client_id: None,
                tenant_id: None,
            }),
        },
        service_account_name: "web".to_owned(),
    }
}

pub(crate) fn managed_identity_spec() -> AcrPullBindingSpec {
    let mut spec = workload_identity_spec();
    spec.auth = AuthenticationMethod {
        managed_identity: Some(ManagedIdentityAuth {
            client_id: Some("33333333-3333-3333-3333-000000000009".to_owned()),
            resource_id: None,
        }),
        workload_identity: None,
    };
    spec
}

pub(crate) fn binding(name: &str, spec: AcrPullBindingSpec) -> AcrPullBinding {
    let mut binding = AcrPullBinding::new(name, spec);
    binding.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("shop".to_owned()),
        uid: Some(format!("uid-of-{name}")),
        generation: Some(3),
        resource_version: Some("100".to_owned()),
        ..ObjectMeta::default()
    };
    binding
}

pub(crate) fn owner(binding: &AcrPullBinding) -> OwnerReference {
    OwnerReference {
        api_version: "acrpull.microsoft.com/v1beta2".to_owned(),
        kind: "AcrPullBinding".to_owned(),
        name: binding.metadata.name.clone().unwrap(),
        uid: binding.metadata.uid.clone().unwrap(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

pub(crate) fn account(name: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            resource_version: Some("200".to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    }
}

pub(crate) fn annotated_account(name: &str) -> ServiceAccount {
    let mut account = account(name);
    account.metadata.annotations = Some(
        [(
            CLIENT_ID_ANNOTATION.to_owned(),
            "33333333-3333-3333-3333-000000000001".to_owned(),
        )]
        .into(),
    );
    account
}
