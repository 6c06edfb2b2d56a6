//! What the peer wrote into a pull Secret. Its token works as well as one of ours, but nobody here knows all that it was
//! issued for: the peer's hash leaves out the client and the tenant. So it is good enough while the peer may still be at
//! work, and is replaced as soon as that is over. That also shows at once, and not hours later, whether the broker lets
//! the binding have a token.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
    jiff::Timestamp,
};

use super::{EXPIRY, PEER_INPUTS, REFRESH, is_our_apply, payload_is};
use crate::{binding::Binding, inputs};

/// The peer's field manager, which is the name of its program. A person's `kubectl` has another one: what somebody wrote
/// by hand is not taken for the peer's.
const MANAGER: &str = "manager";

/// A token that the peer wrote for what the binding says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeersToken {
    /// When the peer fetched it.
    pub refreshed_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// The token, if the payload is the peer's and its hash is that of the binding.
pub(super) fn read(metadata: &ObjectMeta, binding: &Binding) -> Option<PeersToken> {
    let annotations = metadata.annotations.as_ref()?;
    let time = |key: &str| annotations.get(key)?.parse::<Timestamp>().ok();
    let is_peers = payload_is(metadata, is_update)
        && !payload_is(metadata, is_our_apply)
        && annotations.get(PEER_INPUTS)? == &inputs::peer(binding);
    is_peers.then_some(())?;
    Some(PeersToken {
        refreshed_at: time(REFRESH)?,
        expires_at: time(EXPIRY)?,
    })
}

/// Whether the peer made these changes.
pub(super) fn is_update(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Update")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;

    use super::*;
    use crate::{
        binding::ApiVersion,
        pull_secret::{FIELD_MANAGER, SecretState, adoption, judge, slim},
        samples::{binding_of, workload_identity_spec},
    };

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
                fields_v1: Some(FieldsV1(json!({"f:data": {"f:.dockerconfigjson": {}}}))),
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
}
