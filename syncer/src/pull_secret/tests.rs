use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry},
    jiff::ToSpan as _,
};
use serde_json::json;

use super::*;
use crate::samples::{binding, binding_of as sample_of, key, now, owner, workload_identity_spec};

fn applied() -> ManagedFieldsEntry {
    entry(FIELD_MANAGER, "Apply", true, &written::ABOUT_THE_PAYLOAD)
}

/// What the API server says of a writer.
fn entry(manager: &str, operation: &str, has_payload: bool, annotations: &[&str]) -> ManagedFieldsEntry {
    let mut owned = json!({".": {}, "f:acrpull.microsoft.com/refresh-requested": {}});
    for key in annotations {
        owned[format!("f:{key}")] = json!({});
    }
    let mut fields = json!({"f:type": {}, "f:metadata": {"f:annotations": owned, "f:labels": {".": {}}}});
    if has_payload {
        fields["f:data"] = json!({".": {}, "f:.dockerconfigjson": {}});
    }
    ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some(operation.to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        ..ManagedFieldsEntry::default()
    }
}

/// The same after `manager` has changed this annotation: nobody else owns it any more.
fn annotated(mut metadata: ObjectMeta, [manager, key, value]: [&str; 3]) -> ObjectMeta {
    let entries = metadata.managed_fields.as_mut().unwrap();
    for entry in entries.iter_mut() {
        let owned = &mut entry.fields_v1.as_mut().unwrap().0["f:metadata"]["f:annotations"];
        owned
            .as_object_mut()
            .map(|owned| owned.remove(&format!("f:{key}")));
    }
    entries.push(entry(manager, "Update", false, &[key]));
    let annotations = metadata.annotations.as_mut().unwrap();
    annotations.insert(key.to_owned(), value.to_owned());
    metadata
}

/// What counts of it, also when it was slimmed.
fn read(metadata: &ObjectMeta, binding: &Binding) -> Option<Credential> {
    let mut slimmed = metadata.clone();
    slim(&mut slimmed);
    let state = judge(metadata, binding);
    assert_eq!(judge(&slimmed, binding), state);
    state.credential().cloned()
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
fn b14_secret_whose_annotations_somebody_edited_holds_no_credential() {
    let binding = binding("web", workload_identity_spec());
    let whole = written(&binding);
    let forged = [
        (EXPIRY, "2026-11-21T13:16:00Z"),
        (REFRESH, "2026-11-21T12:00:01Z"),
        (REFRESH_AT, "2026-11-21T13:14:00Z"),
        (INPUTS, "of another spec"),
        (FINGERPRINT, "00112233445566778899aabbccddeeff"),
    ];
    for (key, value) in forged {
        let edited = annotated(whole.clone(), ["kubectl-annotate", key, value]);
        assert_eq!(read(&edited, &binding), None, "{key}");
    }
    // The payload goes with its times: what the syncer wrote as a patch of its own is not a payload.
    let mut patched = whole.clone();
    let update = entry(FIELD_MANAGER, "Update", true, &written::ABOUT_THE_PAYLOAD);
    patched.managed_fields = Some(vec![update]);
    assert_eq!(read(&patched, &binding), None);
}

#[test]
fn b14_secret_with_annotations_of_others_keeps_its_credential() {
    let binding = binding("web", workload_identity_spec());
    for key in ["example.com/team", "acr.microsoft.com/note", PEER_INPUTS] {
        let noted = annotated(written(&binding), ["kubectl-annotate", key, "web"]);
        assert_eq!(read(&noted, &binding), Some(credential()), "{key}");
    }
}

#[test]
fn secret_whose_times_we_moved_ourselves_keeps_its_credential() {
    let binding = binding("web", workload_identity_spec());
    let moved = annotated(
        written(&binding),
        [FIELD_MANAGER, REFRESH_AT, "2026-11-21T12:50:00Z"],
    );
    let expected = Credential {
        refresh_at: "2026-11-21T12:50:00Z".parse().unwrap(),
        ..credential()
    };
    assert_eq!(read(&moved, &binding), Some(expected));
}

#[test]
fn b14_secret_whose_times_cannot_all_be_true_holds_no_credential() {
    let binding = binding("web", workload_identity_spec());
    for (key, value) in [
        (EXPIRY, "2099-01-01T00:00:00Z"),
        (EXPIRY, "2026-11-21T11:59:59Z"),
        (EXPIRY, "2026-11-21T12:39:59Z"),
        (REFRESH, "2026-11-20T13:14:59Z"),
        (REFRESH, "2026-11-21T13:15:01Z"),
        (REFRESH_AT, "2026-11-21T13:15:01Z"),
    ] {
        let absurd = annotated(written(&binding), [FIELD_MANAGER, key, value]);
        assert_eq!(read(&absurd, &binding), None, "{key} {value}");
    }
}

#[test]
fn secret_that_was_written_by_a_clock_far_behind_reads_back() {
    let binding = binding("web", workload_identity_spec());
    let behind = Credential {
        refreshed_at: now() - 72.hours(),
        refresh_at: now() + 72.hours(),
        ..credential()
    };
    let mut metadata = written(&binding);
    metadata.annotations = Some(annotations(&binding, &behind, None));
    let read = read(&metadata, &binding).unwrap();
    assert_eq!(read.expires_at, behind.expires_at);
    assert_eq!(read.refreshed_at, behind.expires_at - 24.hours());
    assert_eq!(read.refresh_at, behind.expires_at);
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
    let [kept] = metadata.managed_fields.as_deref().unwrap() else {
        panic!("{metadata:?}")
    };
    let fields = &kept.fields_v1.as_ref().unwrap().0;
    assert_eq!(fields.get("f:type"), None);
    let annotations = fields["f:metadata"]["f:annotations"]
        .as_object()
        .map(serde_json::Map::len);
    assert_eq!(annotations, Some(written::ABOUT_THE_PAYLOAD.len()));
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

#[test]
fn b26_owner_is_the_one_that_the_peer_writes() {
    for api in ApiVersion::ALL {
        let binding = sample_of(api, "web");
        let owners = adoption(&binding).owner_references;
        let peers = json!([{
            "apiVersion": api.as_str(),
            "kind": "AcrPullBinding",
            "name": "web",
            "uid": binding.metadata.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }]);
        assert_eq!(serde_json::to_value(owners).unwrap(), peers);
    }
}
