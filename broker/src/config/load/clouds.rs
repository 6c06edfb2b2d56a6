//! Clouds of the operator's own.

use std::sync::Arc;

use super::field::{ConfigError, content, https};
use crate::config::{Cloud, clouds::REGISTRY_AUDIENCE, file};

pub(super) fn cloud(field: &str, cloud: file::Cloud) -> Result<Arc<Cloud>, ConfigError> {
    let file::Cloud {
        name,
        authority,
        registry_suffixes,
        registry_audience,
    } = cloud;
    let authority = https(&format!("{field}.authority"), &authority)?;
    if authority.path() != "/" || authority.query().is_some() {
        return Err(content(format!("{field}.authority"), "must have no path"));
    }
    let suffix_is_bad = |suffix: &String| {
        suffix.is_empty()
            || suffix.starts_with('.')
            || *suffix != suffix.to_ascii_lowercase()
            || !suffix.contains('.')
    };
    if registry_suffixes.is_empty() || registry_suffixes.iter().any(suffix_is_bad) {
        return Err(content(
            format!("{field}.registrySuffixes"),
            "must list domains such as azurecr.io: lower case, at least two labels, no leading dot",
        ));
    }
    let registry_audience = registry_audience.unwrap_or_else(|| REGISTRY_AUDIENCE.to_owned());
    Ok(Arc::new(Cloud {
        name: name.into(),
        authority,
        registry_suffixes,
        registry_audience,
    }))
}
