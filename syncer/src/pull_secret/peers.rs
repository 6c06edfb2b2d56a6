//! What the peer wrote into a pull Secret. Its token works as well as one of ours, but nobody here knows all that it was
//! issued for: the peer's hash leaves out the client and the tenant. So it is good enough while the peer may still be at
//! work, and is replaced as soon as that is over. That also shows at once, and not hours later, whether the broker lets
//! the binding have a token.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};

use super::{
    EXPIRY, PEER_INPUTS, REFRESH, is_life,
    written::{Writer, annotations_are_by, payload_is_by},
};
use crate::{binding::Binding, inputs};

/// A token that the peer wrote for what the binding says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeersToken {
    /// When the peer fetched it.
    pub refreshed_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// The token, if the payload is the peer's, its hash is that of the binding, and nobody edited its times. One of them may
/// be ours: a field belongs to whoever changed it last, and the peer may find there what it would write.
pub(super) fn read(metadata: &ObjectMeta, binding: &Binding) -> Option<PeersToken> {
    let annotations = metadata.annotations.as_ref()?;
    let time = |key: &str| annotations.get(key)?.parse::<Timestamp>().ok();
    let either = [Writer::Peer, Writer::Applied, Writer::Updated];
    let is_peers = payload_is_by(metadata, Writer::Peer)
        && !payload_is_by(metadata, Writer::Applied)
        && annotations_are_by(metadata, &[EXPIRY, REFRESH], &either)
        && annotations.get(PEER_INPUTS)? == &inputs::peer(binding);
    is_peers.then_some(())?;
    let token = PeersToken {
        refreshed_at: time(REFRESH)?,
        expires_at: time(EXPIRY)?,
    };
    is_life(token.refreshed_at, token.expires_at).then_some(token)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
    use serde_json::json;

    use super::*;
    use crate::{
        binding::ApiVersion,
        pull_secret::{FIELD_MANAGER, SecretState, adoption, judge, slim},
        samples::{binding_of, workload_identity_spec},
    };

    const MANAGER: &str = "manager";
    const REFRESHED: &str = "2026-11-21T11:50:00Z";
    const EXPIRES: &str = "2026-11-21T13:05:00Z";

    /// The Secret as the peer leaves it.
    fn left(binding: &Binding, manager: &str, operation: &str) -> ObjectMeta {
        let annotations = [
            (EXPIRY, EXPIRES.to_owned()),
            (REFRESH, REFRESHED.to_owned()),
            (PEER_INPUTS, inputs::peer(binding)),
        ];
        ObjectMeta {
            uid: Some("uid-of-secret".to_owned()),
            resource_version: Some("7".to_owned()),
            annotations: Some(BTreeMap::from(
                annotations.map(|(key, value)| (key.to_owned(), value)),
            )),
            managed_fields: Some(vec![ManagedFieldsEntry {
                manager: Some(manager.to_owned()),
                operation: Some(operation.to_owned()),
                fields_v1: Some(FieldsV1(json!({
                    "f:data": {".": {}, "f:.dockerconfigjson": {}},
                    "f:metadata": {"f:annotations": {".": {}, format!("f:{EXPIRY}"): {}, format!("f:{REFRESH}"): {}}},
                }))),
                ..ManagedFieldsEntry::default()
            }]),
            ..adoption(binding)
        }
    }

    fn found(metadata: &ObjectMeta, binding: &Binding) -> Option<PeersToken> {
        let SecretState::Ours(secret) = judge(metadata, binding) else {
            panic!("it is the binding's")
        };
        assert_eq!(secret.credential, None, "it is not known what it was issued for");
        secret.peers
    }

    #[test]
    fn peers_token_is_known_by_its_hash_and_manager_also_when_slimmed() {
        for api in ApiVersion::ALL {
            let binding = binding_of(api, "web");
            let mut left = left(&binding, MANAGER, "Update");
            let token = PeersToken {
                refreshed_at: REFRESHED.parse().unwrap(),
                expires_at: EXPIRES.parse().unwrap(),
            };
            assert_eq!(found(&left, &binding), Some(token));
            slim(&mut left);
            assert_eq!(found(&left, &binding), Some(token));
        }
    }

    #[test]
    fn b14_payload_that_a_person_wrote_is_not_the_peers() {
        let binding = binding_of(ApiVersion::V1Beta2, "web");
        for (manager, operation) in [
            ("kubectl-edit", "Update"),
            (MANAGER, "Apply"),
            (FIELD_MANAGER, "Update"),
        ] {
            assert_eq!(found(&left(&binding, manager, operation), &binding), None);
        }
    }

    #[test]
    fn peers_token_for_another_spec_or_without_times_is_none() {
        let binding = binding_of(ApiVersion::V1Beta2, "web");
        let complete = left(&binding, MANAGER, "Update");
        let mut changed = binding.clone();
        changed.spec = workload_identity_spec();
        assert_eq!(found(&complete, &changed), None);
        for annotation in [EXPIRY, REFRESH, PEER_INPUTS] {
            let mut broken = complete.clone();
            broken
                .annotations
                .get_or_insert_default()
                .insert(annotation.to_owned(), "soon".to_owned());
            assert_eq!(found(&broken, &binding), None, "{annotation}");
        }
    }

    #[test]
    fn b14_peers_token_whose_times_somebody_edited_or_that_cannot_be_true_is_none() {
        let binding = binding_of(ApiVersion::V1Beta2, "web");
        let complete = left(&binding, MANAGER, "Update");
        for key in [EXPIRY, REFRESH] {
            let mut edited = complete.clone();
            let entry = &mut edited.managed_fields.as_mut().unwrap()[0];
            let owned = &mut entry.fields_v1.as_mut().unwrap().0["f:metadata"]["f:annotations"];
            owned.as_object_mut().unwrap().remove(&format!("f:{key}"));
            assert_eq!(found(&edited, &binding), None, "{key}");
            // It is the same as what we wrote before.
            edited.managed_fields.as_mut().unwrap().push(ManagedFieldsEntry {
                manager: Some(FIELD_MANAGER.to_owned()),
                operation: Some("Update".to_owned()),
                fields_v1: Some(FieldsV1(
                    json!({"f:metadata": {"f:annotations": {format!("f:{key}"): {}}}}),
                )),
                ..ManagedFieldsEntry::default()
            });
            assert!(found(&edited, &binding).is_some(), "{key}");
        }
        for expiry in ["2099-01-01T00:00:00Z", "2026-11-21T11:49:59Z"] {
            let mut absurd = complete.clone();
            let annotations = absurd.annotations.as_mut().unwrap();
            annotations.insert(EXPIRY.to_owned(), expiry.to_owned());
            assert_eq!(found(&absurd, &binding), None, "{expiry}");
        }
    }
}
