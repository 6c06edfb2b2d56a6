use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
use serde_json::json;

use super::*;
use crate::samples::{binding, managed_identity_spec, now, owner, workload_identity_spec};

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

fn written(binding: &AcrPullBinding) -> ObjectMeta {
    let annotations = annotations(&binding.spec, &credential(), Some("once"));
    ObjectMeta {
        uid: Some("uid-of-secret".to_owned()),
        resource_version: Some("7".to_owned()),
        managed_fields: Some(vec![applied()]),
        ..object(binding, b"payload", annotations).metadata
    }
}

#[test]
fn secret_name_is_the_peers() {
    assert_eq!(name_for("web"), "acr-pull-web");
    let whole = "a".repeat(233);
    assert_eq!(name_for(&whole), format!("acr-pull-{whole}"));
    let long = format!("{}.{}", "a".repeat(232), "b");
    let name = name_for(&long);
    assert_eq!(
        name,
        format!("acr-pull-{}-{}", "a".repeat(232), short_hash(&long))
    );
    assert_eq!(name_for(&"a".repeat(253)).len(), 253);
}

#[test]
fn secret_label_fits_for_every_name() {
    assert_eq!(label_for(&"a".repeat(63)), "a".repeat(63));
    for name in ["a".repeat(64), format!("{}.{}", "a".repeat(51), "b".repeat(100))] {
        let label = label_for(&name);
        assert!(label.len() <= 63, "{label}");
        assert!(
            label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.'),
            "{label}"
        );
        assert!(!label.contains(".-"), "{label}");
    }
    assert_ne!(label_for(&"a".repeat(64)), label_for(&"a".repeat(65)));
}

#[test]
fn secret_that_we_wrote_reads_back() {
    let binding = binding("web", workload_identity_spec());
    assert_eq!(
        judge(&written(&binding), &binding),
        SecretState::Ours(PullSecret {
            uid: "uid-of-secret".to_owned(),
            resource_version: "7".to_owned(),
            adopted: true,
            credential: Some(credential()),
            answered_request: Some("once".to_owned()),
        })
    );
}

#[test]
fn secret_annotations_of_the_peer_keep_their_form() {
    let annotations = annotations(&workload_identity_spec(), &credential(), None);
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
        inputs::peer(&workload_identity_spec())
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
    let binding = binding("web", managed_identity_spec());
    let mut metadata = written(&binding);
    assert_eq!(binding_of(&metadata), Some("web"));
    metadata.owner_references = None;
    assert_eq!(binding_of(&metadata), Some("web"));
    metadata.labels = None;
    assert_eq!(binding_of(&metadata), None);
}
