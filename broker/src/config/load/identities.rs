//! Broker-owned identities.

use std::{collections::BTreeSet, sync::Arc};

use super::field::{ConfigError, content, one, optional};
use crate::config::{Clouds, Identity, file};

pub(super) fn identity(
    field: &str,
    identity: file::Identity,
    clouds: &Clouds,
) -> Result<Arc<Identity>, ConfigError> {
    let file::Identity {
        name,
        cloud,
        tenant,
        client_id,
        resource_id,
        source: _imds,
    } = identity;
    if client_id.is_none() && resource_id.is_none() {
        return Err(content(field, "set clientId, resourceId, or both"));
    }
    let cloud = clouds.named(&cloud).ok_or_else(|| {
        let known: Vec<&str> = clouds.iter().map(|cloud| &*cloud.name).collect();
        content(
            format!("{field}.cloud"),
            format!("{cloud:?} is not a cloud; known are {}", known.join(", ")),
        )
    })?;
    Ok(Arc::new(Identity {
        name: name.into(),
        cloud: Arc::clone(cloud),
        tenant: one(&format!("{field}.tenant"), &tenant)?,
        client_id: optional(&format!("{field}.clientId"), client_id)?,
        resource_id: optional(&format!("{field}.resourceId"), resource_id)?,
    }))
}

/// A request names an identity by client or resource id: it must mean one.
pub(super) fn distinct(identities: &[Arc<Identity>]) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for identity in identities {
        let ids = [
            identity.client_id.as_ref().map(ToString::to_string),
            identity.resource_id.as_ref().map(ToString::to_string),
        ];
        for id in ids.into_iter().flatten() {
            if !seen.insert(id.clone()) {
                return Err(content("identities", format!("{id} is declared twice")));
            }
        }
    }
    Ok(())
}
