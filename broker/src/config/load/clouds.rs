//! Clouds of the operator's own: any authority, any domains, any audience; asking for another audience than that of
//! registries is the operator's decision and nobody else's.

use std::sync::Arc;

use url::Url;

use super::field::{ConfigError, content, https};
use crate::config::{Cloud, clouds::REGISTRY_AUDIENCE, file};

pub(super) fn cloud(field: &str, cloud: file::Cloud) -> Result<Arc<Cloud>, ConfigError> {
    let file::Cloud {
        name,
        authority,
        registry_suffixes,
        registry_audience,
        federation_audience,
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
    let registry_audience = match registry_audience {
        None => REGISTRY_AUDIENCE.to_owned(),
        Some(audience) => checked_audience(&format!("{field}.registryAudience"), audience, &["https"])?,
    };
    let federation_audience = federation_audience
        .map(|audience| {
            checked_audience(
                &format!("{field}.federationAudience"),
                audience,
                &["api", "https"],
            )
        })
        .transpose()?;
    Ok(Arc::new(Cloud {
        name: name.into(),
        authority,
        registry_suffixes,
        registry_audience,
        federation_audience,
    }))
}

/// An audience as Entra knows them. It is asked for as `<audience>/.default`, of which it must leave one reading only, and
/// is written to Entra as it is here: whether a slash ends it is the cloud's to say.
fn checked_audience(field: &str, audience: String, schemes: &[&str]) -> Result<String, ConfigError> {
    let is_good = Url::parse(&audience).is_ok_and(|url| {
        schemes.contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    let has_suffix = audience.ends_with("/.default");
    if !is_good || has_suffix || audience.chars().any(|c| c.is_whitespace() || c.is_control()) {
        let schemes = schemes.join(":// or ");
        return Err(content(
            field,
            format!(
                "{audience:?} must be an audience that starts with {schemes}://, without /.default, query and fragment"
            ),
        ));
    }
    Ok(audience)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_audiences(registry: Option<&str>, federation: Option<&str>) -> Result<Arc<Cloud>, ConfigError> {
        let file = file::Cloud {
            name: "airgap-1".to_owned(),
            authority: "https://login.airgap.example".to_owned(),
            registry_suffixes: vec!["azurecr.airgap.example".to_owned()],
            registry_audience: registry.map(str::to_owned),
            federation_audience: federation.map(str::to_owned),
        };
        cloud("clouds[0]", file)
    }

    #[test]
    fn e2_registry_audience_is_that_of_registries_unless_the_operator_says_otherwise() {
        let usual = with_audiences(None, None).unwrap();
        assert_eq!(usual.registry_audience, "https://containerregistry.azure.net");
        assert!(usual.asks_for_registries_only());
        // A slash at the end is part of the name that Entra knows.
        for audience in [
            "https://management.azure.com/",
            "https://management.adfs.airgap.example/4fc3",
        ] {
            let cloud = with_audiences(Some(audience), None).unwrap();
            assert_eq!(cloud.registry_audience, audience);
            assert!(!cloud.asks_for_registries_only());
        }
    }

    #[test]
    fn e2_audience_that_has_two_readings_is_refused() {
        for audience in [
            "",
            "management.azure.com",
            "http://management.azure.com",
            "api://AzureADTokenExchange",
            "https://management.azure.com/.default",
            "https://management.azure.com/ https://vault.azure.net",
            "https://user@management.azure.com",
            "https://management.azure.com?x",
            "https://management.azure.com#x",
        ] {
            let error = with_audiences(Some(audience), None).unwrap_err().to_string();
            assert!(error.starts_with("clouds[0].registryAudience: "), "{error}");
        }
        let federation = Some("api://AzureADTokenExchange");
        assert_eq!(
            with_audiences(None, federation)
                .unwrap()
                .federation_audience
                .as_deref(),
            federation
        );
        let error = with_audiences(None, Some("AzureADTokenExchange"))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("clouds[0].federationAudience: "), "{error}");
    }
}
