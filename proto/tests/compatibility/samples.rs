//! What the fixtures mean: each message of 0.1 with a value of its own in every field.

use proto::v1::{
    BindingReference, BrokerOwnedIdentity, CloudReference, FederatedIdentity, GetDockerConfigRequest,
    GetDockerConfigResponse, HeldCredential, broker_owned_identity::Selector,
    get_docker_config_request::Identity,
};

/// Fields that later versions add keep their defaults.
fn filled<M: Default>(fill: impl FnOnce(&mut M)) -> M {
    let mut message = M::default();
    fill(&mut message);
    message
}

fn at(seconds: i64, nanos: i32) -> pbjson_types::Timestamp {
    pbjson_types::Timestamp { seconds, nanos }
}

fn binding() -> BindingReference {
    filled(|binding: &mut BindingReference| {
        binding.namespace = "shop".to_owned();
        binding.name = "web".to_owned();
        binding.uid = "0a1b2c3d-0000-0000-0000-000000000001".to_owned();
    })
}

fn owned(selector: Selector) -> Identity {
    Identity::BrokerOwned(filled(|owned: &mut BrokerOwnedIdentity| {
        owned.selector = Some(selector);
    }))
}

pub(crate) fn requests() -> Vec<(&'static str, GetDockerConfigRequest)> {
    let federated = filled(|request: &mut GetDockerConfigRequest| {
        request.binding = Some(binding());
        request.service_accounts = vec!["web".to_owned(), "batch".to_owned()];
        request.registry = "prod.azurecr.io".to_owned();
        request.scopes = vec![
            "repository:team/web:pull".to_owned(),
            "repository:base:pull,push".to_owned(),
        ];
        request.cloud = Some(filled(|cloud: &mut CloudReference| {
            cloud.name = "AirgappedCloud".to_owned();
            cloud.authority_host = "https://login.example".to_owned();
        }));
        request.identity = Some(Identity::Federated(filled(|identity: &mut FederatedIdentity| {
            identity.tenant_id = "22222222-2222-2222-2222-222222222222".to_owned();
            identity.client_id = "33333333-3333-3333-3333-000000000001".to_owned();
            identity.subject_token = "header.claims.signature".to_owned();
        })));
        request.min_remaining = Some(pbjson_types::Duration {
            seconds: 600,
            nanos: 500_000_000,
        });
        request.held = Some(filled(|held: &mut HeldCredential| {
            held.fingerprint = b"0123456789abcdef".as_slice().into();
            held.expire_time = Some(at(1_795_003_600, 0));
        }));
        request.rejected_fingerprint = b"fedcba9876543210".as_slice().into();
        request.force = true;
    });
    let by_client_id = filled(|request: &mut GetDockerConfigRequest| {
        request.binding = Some(binding());
        request.service_accounts = vec!["web".to_owned()];
        request.registry = "prod.azurecr.io".to_owned();
        request.identity = Some(owned(Selector::ClientId(
            "33333333-3333-3333-3333-000000000002".to_owned(),
        )));
    });
    let by_resource_id = filled(|request: &mut GetDockerConfigRequest| {
        request.identity = Some(owned(Selector::ResourceId(
            "/subscriptions/s/resourceGroups/g".to_owned(),
        )));
    });
    vec![
        ("get_docker_config_request.federated", federated),
        ("get_docker_config_request.by_client_id", by_client_id),
        ("get_docker_config_request.by_resource_id", by_resource_id),
    ]
}

pub(crate) fn responses() -> Vec<(&'static str, GetDockerConfigResponse)> {
    let payload = filled(|response: &mut GetDockerConfigResponse| {
        response.docker_config_json = br#"{"auths":{}}"#.as_slice().into();
        response.expire_time = Some(at(1_795_004_500, 250_000_000));
        response.refresh_time = Some(at(1_795_002_250, 0));
        response.granted_scopes = vec![
            "repository:base:pull,push".to_owned(),
            "repository:team/web:pull".to_owned(),
        ];
        response.fingerprint = b"0123456789abcdef".as_slice().into();
        response.degraded = true;
    });
    let not_modified = filled(|response: &mut GetDockerConfigResponse| {
        response.not_modified = true;
        response.expire_time = Some(at(1_795_004_500, 0));
        response.refresh_time = Some(at(1_795_002_250, 0));
        response.fingerprint = b"0123456789abcdef".as_slice().into();
    });
    vec![
        ("get_docker_config_response.payload", payload),
        ("get_docker_config_response.not_modified", not_modified),
    ]
}
