//! Clouds of the operator's own, and built-in ones that the operator has narrowed.

use std::sync::Arc;

use proto::types::RegistryHost;

use super::field::{ConfigError, all, content, https};
use crate::config::{Cloud, RegistryFence, clouds::REGISTRY_AUDIENCE, file};

pub(super) fn cloud(field: &str, cloud: file::Cloud) -> Result<Arc<Cloud>, ConfigError> {
    let file::Cloud {
        name,
        authority,
        registries,
        registry_suffixes,
        registry_audience,
    } = cloud;
    let authority = https(&format!("{field}.authority"), &authority)?;
    if authority.path() != "/" || authority.query().is_some() {
        return Err(content(format!("{field}.authority"), "must have no path"));
    }
    if registries.is_empty() && registry_suffixes.is_empty() {
        return Err(content(
            field,
            "must name its registries: hosts in registries, domains in registrySuffixes, or both",
        ));
    }
    let hosts: Vec<RegistryHost> = all(&format!("{field}.registries"), &registries)?;
    if !registry_suffixes.iter().all(|suffix| is_domain(suffix)) {
        return Err(content(
            format!("{field}.registrySuffixes"),
            "must list domains such as azurecr.io: lower case, at least two labels, no leading dot",
        ));
    }
    let registry_audience = registry_audience.unwrap_or_else(|| REGISTRY_AUDIENCE.to_owned());
    Ok(Arc::new(Cloud {
        name: name.into(),
        authority,
        registries: RegistryFence::new(hosts, registry_suffixes),
        registry_audience,
    }))
}

/// By the rules of a registry's own name, because what lies under it must keep to them.
fn is_domain(suffix: &str) -> bool {
    suffix
        .parse::<RegistryHost>()
        .is_ok_and(|host| host.as_str() == suffix)
}
