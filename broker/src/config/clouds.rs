//! The clouds: where Entra is, which domains are registries, which audience a registry token is for.

use std::sync::Arc;

use proto::types::RegistryHost;
use url::Url;

use super::RegistryFence;

/// The audience that every registry accepts, in every cloud: also those that refuse tokens for ARM
/// (`azureADAuthenticationAsArmPolicy` disabled). A token for it is of no use elsewhere.
pub(super) const REGISTRY_AUDIENCE: &str = "https://containerregistry.azure.net";

/// Name that bindings use for a cloud of the operator's own.
const AIRGAPPED: &str = "AirgappedCloud";

/// One cloud.
#[derive(Debug, PartialEq, Eq)]
pub struct Cloud {
    /// Its name.
    pub name: Arc<str>,
    /// The Entra authority: scheme and host.
    pub authority: Url,
    /// Its registries.
    pub registries: RegistryFence,
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
        self.registries.allows(host)
    }

    /// What a caller is told whose registry is not allowed.
    pub fn domains_in_words(&self) -> String {
        let domains: Vec<&str> = self.registries.domains().collect();
        if domains.is_empty() {
            return "none, its registries are listed one by one".to_owned();
        }
        domains.join(", ")
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
                    registries: RegistryFence::new([], [suffix.to_owned()]),
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
                let origin = Url::parse(authority).ok()?.origin();
                let mut meant = self
                    .configured
                    .iter()
                    .filter(|cloud| cloud.authority.origin() == origin);
                // Of two, the binding could mean either.
                meant.next().filter(|_first| meant.next().is_none())
            }
            (name, "") => self.named(name),
            (_, _) => None,
        }
    }

    /// The registries of all clouds.
    pub fn registries(&self) -> RegistryFence {
        RegistryFence::around(self.iter().map(|cloud| &cloud.registries))
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
            let domains: Vec<&str> = clouds.requested(name, "").unwrap().registries.domains().collect();
            assert_eq!(domains, [suffix]);
        }
        assert!(clouds.requested("GermanCloud", "").is_none());
    }

    #[test]
    fn e1_built_in_cloud_is_narrowed_by_naming_it() {
        let narrow = Arc::new(Cloud {
            name: "PublicCloud".into(),
            authority: Url::parse("https://login.microsoftonline.com").unwrap(),
            registries: RegistryFence::new(["prod.azurecr.io".parse().unwrap()], []),
            registry_audience: REGISTRY_AUDIENCE.to_owned(),
            federation_audience: None,
        });
        let clouds = Clouds::new(vec![narrow]);
        let public = clouds.requested("", "").unwrap();
        assert!(public.allows(&"prod.azurecr.io".parse().unwrap()));
        assert!(!public.allows(&"other.azurecr.io".parse().unwrap()));
        let all = clouds.registries();
        assert!(!all.allows(&"other.azurecr.io".parse().unwrap()), "{all}");
        assert!(all.allows(&"other.azurecr.us".parse().unwrap()), "{all}");
    }

    #[test]
    fn clouds_authority_of_a_binding_selects_and_never_adds() {
        let listed = Arc::new(Cloud {
            name: "airgap-1".into(),
            authority: Url::parse("https://login.airgap.example").unwrap(),
            registries: RegistryFence::new([], ["azurecr.airgap.example".to_owned()]),
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

    #[test]
    fn a4_authority_of_two_clouds_selects_neither() {
        let cloud = |name: &str| {
            Arc::new(Cloud {
                name: name.into(),
                authority: Url::parse("https://login.airgap.example").unwrap(),
                registries: RegistryFence::new([], [format!("azurecr.{name}.example")]),
                registry_audience: REGISTRY_AUDIENCE.to_owned(),
                federation_audience: None,
            })
        };
        let clouds = Clouds::new(vec![cloud("east"), cloud("west")]);
        assert_eq!(clouds.requested(AIRGAPPED, "https://login.airgap.example"), None);
        assert!(clouds.requested("west", "").is_some());
    }
}
