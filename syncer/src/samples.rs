//! Objects for unit tests. Every field has a value of its own, so that a test sees when two are mixed up.

pub(crate) mod api_server;
mod context;

use k8s_openapi::{
    api::core::v1::ServiceAccount,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::Timestamp,
};

use crate::{
    binding::{ApiVersion, Binding, BindingRef, Defaults},
    crd::{
        AcrConfiguration, AcrPullBinding, AcrPullBindingSpec, AuthenticationMethod, AzureEnvironment,
        ManagedIdentityAuth, WorkloadIdentityAuth, v1beta1,
    },
    wanted::CLIENT_ID_ANNOTATION,
};

pub(crate) use context::context;

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
        service_account_names: Vec::new(),
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

pub(crate) fn older_spec() -> v1beta1::AcrPullBindingSpec {
    v1beta1::AcrPullBindingSpec {
        acr_server: "prod.azurecr.io".to_owned(),
        scope: Some("repository:team/web:pull".to_owned()),
        managed_identity_client_id: Some("33333333-3333-3333-3333-000000000009".to_owned()),
        managed_identity_resource_id: None,
        service_account_name: Some("web".to_owned()),
    }
}

pub(crate) fn binding(name: &str, spec: AcrPullBindingSpec) -> Binding {
    manifest(name, spec).into()
}

/// The same as the API server has it.
pub(crate) fn manifest(name: &str, spec: AcrPullBindingSpec) -> AcrPullBinding {
    AcrPullBinding {
        metadata: metadata(name),
        ..AcrPullBinding::new(name, spec)
    }
}

/// One of the older API, read without defaults.
pub(crate) fn older_binding(name: &str, spec: v1beta1::AcrPullBindingSpec) -> Binding {
    Defaults::default().complete(v1beta1::AcrPullBinding {
        metadata: metadata(name),
        ..v1beta1::AcrPullBinding::new(name, spec)
    })
}

/// One of each API that mean the same.
pub(crate) fn binding_of(api: ApiVersion, name: &str) -> Binding {
    match api {
        ApiVersion::V1Beta2 => binding(name, managed_identity_spec()),
        ApiVersion::V1Beta1 => older_binding(name, older_spec()),
    }
}

fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("shop".to_owned()),
        uid: Some(format!("uid-of-{name}")),
        generation: Some(3),
        resource_version: Some("100".to_owned()),
        ..ObjectMeta::default()
    }
}

pub(crate) fn key(api: ApiVersion, name: &str) -> BindingRef {
    BindingRef::new_with(name, api).within("shop")
}

pub(crate) fn owner(binding: &Binding) -> OwnerReference {
    OwnerReference {
        api_version: binding.api.as_str().to_owned(),
        kind: "AcrPullBinding".to_owned(),
        name: binding.metadata.name.clone().unwrap(),
        uid: binding.metadata.uid.clone().unwrap(),
        controller: Some(true),
        block_owner_deletion: Some(true),
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
