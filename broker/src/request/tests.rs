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
        tenant_id: String::new(),
        client_id: "33333333-3333-3333-3333-000000000001".into(),
        subject_token: String::new(),
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

/// Whatever is wrong with the request, and however early that is noticed.
#[test]
fn l2_subject_token_of_a_request_that_is_refused_is_wiped() {
    use std::{
        fs::File,
        io::{Read as _, Seek as _, SeekFrom},
    };
    type Break = fn(&mut v1::GetDockerConfigRequest);
    const CANARY: &str = "canary-of-a-subject-token";
    let broken: [Break; 3] = [
        |r| r.binding = None,
        |r| r.registry.clear(),
        |r| r.rejected_fingerprint = vec![1].into(),
    ];
    for break_it in broken {
        let mut message = valid();
        break_it(&mut message);
        let token = CANARY.repeat(100);
        let (address, length) = (token.as_ptr() as u64, token.len());
        message.identity = Some(Identity::Federated(v1::FederatedIdentity {
            tenant_id: String::new(),
            client_id: "33333333-3333-3333-3333-000000000001".into(),
            subject_token: token,
        }));
        // Set up before: an allocation in between could be given the very memory that is looked at.
        let (mut memory, mut bytes) = (File::open("/proc/self/mem").unwrap(), vec![0; length]);
        let mut is_seen = || {
            memory.seek(SeekFrom::Start(address)).unwrap();
            let read = memory.read(&mut bytes).unwrap_or_default();
            bytes[..read]
                .windows(CANARY.len())
                .any(|window| window == CANARY.as_bytes())
        };
        assert!(is_seen());
        assert!(DockerConfigRequest::try_from(message).is_err());
        assert!(!is_seen());
    }
}
