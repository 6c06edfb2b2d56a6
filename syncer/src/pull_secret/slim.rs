//! What is kept of a watched Secret's metadata: what [`super::judge`] and [`super::binding_of`] read. There are
//! thousands of them, and most of each is the list of fields that somebody manages. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{BINDING_LABEL, written};

/// The domains of the annotations that the peer and this syncer write.
const OUR_DOMAINS: [&str; 2] = ["acrpull.microsoft.com/", "acr.microsoft.com/"];

/// Drops what is never read.
pub fn slim(metadata: &mut ObjectMeta) {
    if let Some(entries) = &mut metadata.managed_fields {
        *entries = entries.iter_mut().filter_map(written::slim).collect();
        entries.shrink_to_fit();
    }
    if let Some(labels) = &mut metadata.labels {
        labels.retain(|key, _value| key == BINDING_LABEL);
    }
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _value| is_ours(key));
    }
    metadata.finalizers = None;
}

/// Whether an annotation is the peer's or the syncer's.
pub fn is_ours(annotation: &str) -> bool {
    OUR_DOMAINS.iter().any(|domain| annotation.starts_with(domain))
}
