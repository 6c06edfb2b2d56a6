//! What is kept of a watched binding's metadata. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::pull_secret;

/// Drops what is never read: who manages which field, who owns the binding (a chart, a deployment tool), and the
/// annotations of others, of which kubectl's copy of the whole object is the largest.
pub fn slim(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.owner_references = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _value| pull_secret::is_ours(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        binding::ApiVersion,
        pull_secret::REFRESH_REQUESTED,
        samples::{binding_of, owner},
    };

    #[test]
    fn slim_binding_is_decided_on_as_before() {
        for api in ApiVersion::ALL {
            let mut binding = binding_of(api, "web");
            binding.metadata.annotations = Some([(REFRESH_REQUESTED.to_owned(), "now".to_owned())].into());
            let bare = binding.clone();
            binding.metadata.owner_references = Some(vec![owner(&binding)]);
            binding.metadata.annotations.as_mut().unwrap().insert(
                "kubectl.kubernetes.io/last-applied-configuration".to_owned(),
                "{}".repeat(1000),
            );
            slim(&mut binding.metadata);
            assert_eq!(binding, bare);
        }
    }
}
