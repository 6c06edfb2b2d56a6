//! The clouds: where Entra is, which domains are registries, which audience a registry token is for.

use std::{collections::BTreeSet, sync::Arc};

use proto::types::RegistryHost;
use url::Url;

/// The audience that every registry accepts, in every cloud: also those that refuse tokens for ARM
/// (`azureADAuthenticationAsArmPolicy` disabled). A token for it is of no use elsewhere.
pub(super) const REGISTRY_AUDIENCE: &str = "https://containerregistry.azure.net";

/// Name that bindings use for a cloud of the operator's own.
const AIRGAPPED: &str = "AirgappedCloud";

/// One cloud.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Cloud {
    /// Its name.
    pub name: Arc<str>,
    /// The Entra authority: scheme and host.
    pub authority: Url,
    /// Domains of registries. A registry's host lies under one of them.
    pub registry_suffixes: Vec<String>,
    /// The audience to ask Entra for.
    pub registry_audience: String,
    /// The audience of tokens with which managed identities become applications. None: not known for this cloud.
    pub federation_audience: Option<String>,
}

impl Cloud {
    /// Whether its registry tokens are of use at registries only.
    pub fn asks_for_registries_only(&self) -> bool {
        self.registry_audience == REGISTRY_AUDIENCE
    }

    /// Whether a token of this cloud may be sent to `host`.
    pub fn allows(&self, host: &RegistryHost) -> bool {
        self.registry_suffixes.iter().any(|suffix| host.is_under(suffix))
    }
}

/// All clouds that requests may name.
#[derive(Debug)]
pub struct Clouds {
    built_in: Vec<Arc<Cloud>>,
    configured: Vec<Arc<Cloud>>,
}

impl Clouds {
    /// The built-in clouds, and `configured` beside them. A configured one with the name of a built-in one replaces it.
    pub fn new(configured: Vec<Arc<Cloud>>) -> Self {
        let built_in = [
            (
                "PublicCloud",
                "https://login.microsoftonline.com",
                "azurecr.io",
                "api://AzureADTokenExchange",
            ),
            (
                "USGovernmentCloud",
                "https://login.microsoftonline.us",
                "azurecr.us",
                "api://AzureADTokenExchangeUSGov",
            ),
            (
                "ChinaCloud",
                "https://login.chinacloudapi.cn",
                "azurecr.cn",
                "api://AzureADTokenExchangeChina",
            ),
        ];
        let built_in = built_in
            .into_iter()
            .filter(|(name, ..)| configured.iter().all(|cloud| *cloud.name != **name))
            .filter_map(|(name, authority, suffix, federation_audience)| {
                Some(Arc::new(Cloud {
                    name: name.into(),
                    authority: Url::parse(authority).ok()?,
                    registry_suffixes: vec![suffix.to_owned()],
                    registry_audience: REGISTRY_AUDIENCE.to_owned(),
                    federation_audience: Some(federation_audience.to_owned()),
                }))
            })
            .collect();
        Self { built_in, configured }
    }

    /// The cloud that the configuration calls `name`.
    pub fn named(&self, name: &str) -> Option<&Arc<Cloud>> {
        self.configured
            .iter()
            .chain(&self.built_in)
            .find(|cloud| *cloud.name == *name)
    }

    /// The cloud that a request means. Empty is the public cloud; `AirgappedCloud` is found by its authority, among
    /// those that the operator has listed: a binding can select an authority and never introduce one.
    pub fn requested(&self, name: &str, authority_host: &str) -> Option<&Arc<Cloud>> {
        match (name, authority_host) {
            ("", "") => self.named("PublicCloud"),
            (AIRGAPPED, "") => None,
            (AIRGAPPED, authority) => {
                let authority = Url::parse(authority).ok()?;
                self.configured
                    .iter()
                    .find(|cloud| cloud.authority.origin() == authority.origin())
            }
            (name, "") => self.named(name),
            (_, _) => None,
        }
    }

    /// The domains of all registries, in order.
    pub fn registry_domains(&self) -> BTreeSet<&str> {
        self.iter()
            .flat_map(|cloud| cloud.registry_suffixes.iter().map(String::as_str))
            .collect()
    }

    /// Every cloud.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Cloud>> {
        self.configured.iter().chain(&self.built_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clouds_three_are_built_in() {
        let clouds = Clouds::new(Vec::new());
        for (name, suffix) in [
            ("", "azurecr.io"),
            ("PublicCloud", "azurecr.io"),
            ("USGovernmentCloud", "azurecr.us"),
            ("ChinaCloud", "azurecr.cn"),
        ] {
            assert_eq!(clouds.requested(name, "").unwrap().registry_suffixes, [suffix]);
        }
        assert!(clouds.requested("GermanCloud", "").is_none());
    }

    #[test]
    fn clouds_authority_of_a_binding_selects_and_never_adds() {
        let listed = Arc::new(Cloud {
            name: "airgap-1".into(),
            authority: Url::parse("https://login.airgap.example").unwrap(),
            registry_suffixes: vec!["azurecr.airgap.example".to_owned()],
            registry_audience: REGISTRY_AUDIENCE.to_owned(),
            federation_audience: None,
        });
        let clouds = Clouds::new(vec![Arc::clone(&listed)]);
        assert_eq!(
            clouds.requested(AIRGAPPED, "https://login.airgap.example/"),
            Some(&listed)
        );
        for authority in [
            "",
            "https://login.evil.example",
            "http://login.airgap.example",
            "https://login.airgap.example:444",
            "nonsense",
        ] {
            assert_eq!(clouds.requested(AIRGAPPED, authority), None, "{authority}");
        }
        assert_eq!(
            clouds.requested("PublicCloud", "https://login.airgap.example"),
            None
        );
    }
}
