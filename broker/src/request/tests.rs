//! Every field, right and wrong.

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
fn request_for_a_token_parses_like_one_for_a_docker_config() {
    let message = v1::GetAccessTokenRequest {
        binding: valid().binding,
        service_accounts: vec!["sa".into()],
        registry: "example.azurecr.io".into(),
        scopes: vec!["repository:team/app:pull".into()],
        identity: Some(v1::get_access_token_request::Identity::Federated(
            v1::FederatedIdentity {
                tenant_id: "22222222-2222-2222-2222-222222222222".into(),
                client_id: "33333333-3333-3333-3333-000000000001".into(),
                subject_token: "a.b.c".into(),
            },
        )),
        force: true,
        ..v1::GetAccessTokenRequest::default()
    };
    let request = DockerConfigRequest::try_from(message).ok().unwrap();
    assert!(request.wish.force);
    assert!(matches!(
        request.identity,
        RequestedIdentity::Federated { tenant: Some(_), subject_token, .. } if subject_token.expose() == "a.b.c"
    ));
}

#[test]
fn request_to_explain_needs_no_subject_token() {
    let mut message = valid();
    message.identity = Some(Identity::Federated(v1::FederatedIdentity {
        client_id: "33333333-3333-3333-3333-000000000001".into(),
        ..v1::FederatedIdentity::default()
    }));
    assert!(DockerConfigRequest::parse(message.clone(), SubjectToken::Optional).is_ok());
    let refused = DockerConfigRequest::parse(message, SubjectToken::Required);
    assert_eq!(refused.err().unwrap().field, "federated.subject_token");
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
