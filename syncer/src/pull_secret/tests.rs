use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
use serde_json::json;

use super::*;
use crate::samples::{binding, binding_of as sample_of, key, now, owner, workload_identity_spec};

fn applied() -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        manager: Some(FIELD_MANAGER.to_owned()),
        operation: Some("Apply".to_owned()),
        fields_v1: Some(FieldsV1(json!({"f:data": {"f:.dockerconfigjson": {}}}))),
        ..ManagedFieldsEntry::default()
    }
}

fn credential() -> Credential {
    Credential {
        inputs: "abc".to_owned(),
        fingerprint: Fingerprint::of(b"payload"),
        refreshed_at: now(),
        expires_at: "2026-11-21T13:15:00Z".parse().unwrap(),
        refresh_at: "2026-11-21T12:40:00Z".parse().unwrap(),
    }
}

fn written(binding: &Binding) -> ObjectMeta {
    let annotations = annotations(binding, &credential(), Some("once"));
    ObjectMeta {
        uid: Some("uid-of-secret".to_owned()),
        resource_version: Some("7".to_owned()),
        managed_fields: Some(vec![applied()]),
        ..object(binding, b"payload", annotations).metadata
    }
}

#[test]
fn secret_that_we_wrote_reads_back() {
    for api in ApiVersion::ALL {
        let binding = sample_of(api, "web");
        assert_eq!(
            judge(&written(&binding), &binding),
            SecretState::Ours(PullSecret {
                uid: "uid-of-secret".to_owned(),
                resource_version: "7".to_owned(),
                adopted: true,
                credential: Some(credential()),
                peers: None,
                answered_request: Some("once".to_owned()),
            })
        );
    }
}

#[test]
fn b5_secret_of_the_other_api_is_foreign_whatever_its_name() {
    for [ours, theirs] in [
        [ApiVersion::V1Beta2, ApiVersion::V1Beta1],
        [ApiVersion::V1Beta1, ApiVersion::V1Beta2],
    ] {
        let written = written(&sample_of(theirs, "web"));
        assert_eq!(judge(&written, &sample_of(ours, "web")), SecretState::Foreign);
    }
}

#[test]
fn secret_annotations_of_the_peer_keep_their_form() {
    let binding = binding("web", workload_identity_spec());
    let annotations = annotations(&binding, &credential(), None);
    assert_eq!(
        annotations["acr.microsoft.com/token.expiry"],
        "2026-11-21T13:15:00Z"
    );
    assert_eq!(
        annotations["acr.microsoft.com/token.refresh"],
        "2026-11-21T12:00:00Z"
    );
    assert_eq!(
        annotations["acr.microsoft.com/token.inputs"],
        inputs::peer(&binding)
    );
    assert!(!annotations.contains_key(REFRESH_REQUESTED));
}

#[test]
fn secret_of_the_peer_is_ours_without_a_known_credential() {
    let binding = binding("web", workload_identity_spec());
    let mut metadata = written(&binding);
    metadata
        .annotations
        .as_mut()
        .unwrap()
        .retain(|key, _| key.starts_with("acr.microsoft.com/"));
    metadata.managed_fields = None;
    let SecretState::Ours(secret) = judge(&metadata, &binding) else {
        panic!("foreign")
    };
    assert!(secret.adopted);
    assert_eq!(secret.credential, None);
}

#[test]
fn secret_of_an_earlier_binding_is_ours_and_to_be_adopted() {
    let binding = binding("web", workload_identity_spec());
    let mut metadata = written(&binding);
    metadata.owner_references.as_mut().unwrap()[0].uid = "earlier".to_owned();
    let SecretState::Ours(secret) = judge(&metadata, &binding) else {
        panic!("foreign")
    };
    assert!(!secret.adopted);
    assert_eq!(
        secret.credential,
        Some(credential()),
        "the credential is still good"
    );
}

#[test]
fn secret_orphan_counts_by_its_label() {
    let binding = binding("web", workload_identity_spec());
    let mut metadata = written(&binding);
    metadata.owner_references = None;
    assert!(matches!(judge(&metadata, &binding), SecretState::Ours(secret) if !secret.adopted));
    metadata.labels = None;
    assert_eq!(judge(&metadata, &binding), SecretState::Foreign);
}

#[test]
fn secret_without_label_and_with_our_owner_gets_its_label_back() {
    let binding = binding("web", workload_identity_spec());
    let mut metadata = written(&binding);
    metadata.labels = None;
    assert!(matches!(judge(&metadata, &binding), SecretState::Ours(secret) if !secret.adopted));
}

#[test]
fn secret_of_somebody_else_is_foreign() {
    let binding = binding("web", workload_identity_spec());
    let edits: [fn(&mut OwnerReference); 3] = [
        |owner| owner.kind = "Deployment".to_owned(),
        |owner| owner.api_version = "other.example/v1".to_owned(),
        |owner| owner.name = "other".to_owned(),
    ];
    for edit in edits {
        let mut metadata = written(&binding);
        edit(&mut metadata.owner_references.as_mut().unwrap()[0]);
        assert_eq!(judge(&metadata, &binding), SecretState::Foreign);
    }
    let mut shared = written(&binding);
    let mut other = owner(&binding);
    other.kind = "Deployment".to_owned();
    shared.owner_references.as_mut().unwrap().push(other);
    assert_eq!(judge(&shared, &binding), SecretState::Foreign);
}

#[test]
fn secret_payload_written_by_somebody_else_is_no_credential() {
    let binding = binding("web", workload_identity_spec());
    let mut metadata = written(&binding);
    metadata.managed_fields.as_mut().unwrap()[0].fields_v1 = Some(FieldsV1(json!({"f:type": {}})));
    assert!(matches!(judge(&metadata, &binding), SecretState::Ours(secret) if secret.credential.is_none()));
}

#[test]
fn secret_slimmed_metadata_is_judged_the_same() {
    let binding = binding("web", workload_identity_spec());
    let mut metadata = written(&binding);
    metadata
        .managed_fields
        .as_mut()
        .unwrap()
        .push(ManagedFieldsEntry {
            manager: Some("kubectl".to_owned()),
            ..applied()
        });
    let whole = judge(&metadata, &binding);
    slim(&mut metadata);
    assert_eq!(metadata.managed_fields.as_ref().unwrap().len(), 1);
    assert_eq!(judge(&metadata, &binding), whole);
}

#[test]
fn secret_leads_to_its_binding_by_owner_or_label() {
    for api in ApiVersion::ALL {
        let mut metadata = written(&sample_of(api, "web"));
        assert_eq!(binding_of(&metadata), Some(key(api, "web")));
        metadata.owner_references = None;
        assert_eq!(binding_of(&metadata), Some(key(api, "web")));
        metadata.labels = None;
        assert_eq!(binding_of(&metadata), None);
    }
}

#[test]
fn secret_whose_name_could_be_of_either_api_leads_to_the_one_of_its_label() {
    // A binding of v1beta1 called acr-pull-web, and one of v1beta2 called web-msi-acrpull-secret.
    for (api, name) in [
        (ApiVersion::V1Beta1, "acr-pull-web"),
        (ApiVersion::V1Beta2, "web-msi-acrpull-secret"),
    ] {
        let mut metadata = written(&sample_of(api, name));
        assert_eq!(metadata.name.as_deref(), Some("acr-pull-web-msi-acrpull-secret"));
        metadata.owner_references = None;
        assert_eq!(binding_of(&metadata), Some(key(api, name)));
    }
}
