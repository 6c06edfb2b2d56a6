//! The names of client certificates, over all clusters: whose a certificate is must never be a question.

use std::collections::BTreeMap;

use super::field::{ConfigError, content};
use crate::config::ClusterConfig;

/// Two clusters with a certificate in common would be bound to nothing: the token of one could come from the other.
pub(super) fn distinct(clusters: &[ClusterConfig]) -> Result<(), ConfigError> {
    let mut owners = BTreeMap::new();
    for (index, cluster) in clusters.iter().enumerate() {
        for name in &cluster.client_certificates {
            let owner = owners.insert(name.to_string(), &cluster.name);
            if let Some(owner) = owner.filter(|owner| *owner != &cluster.name) {
                return Err(content(
                    format!("clusters[{index}].clientCertificates"),
                    format!("{:?} is of cluster {owner:?} already", name.to_string()),
                ));
            }
        }
    }
    Ok(())
}
