//! The registries that this syncer asks tokens for: the peer's `--allowed-acr-server-suffixes`. The broker has a list of
//! its own for every cluster; this one is checked before any token is minted or sent. Pure.

use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use proto::{
    Reason,
    types::{RegistryHost, RegistryHostError},
};

use crate::problem::Problem;

/// Domains, each itself and all under it. None means that there is no restriction here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedServers(Arc<BTreeSet<RegistryHost>>);

/// Which part of a list is no domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("has {domain:?} for a domain, which {rule}")]
pub struct AllowedServersError {
    domain: String,
    rule: RegistryHostError,
}

impl AllowedServers {
    /// Lets the registry pass, or says why not.
    ///
    /// # Errors
    /// The registry is in none of the domains.
    pub fn check(&self, registry: &RegistryHost) -> Result<(), Problem> {
        let is_in = |domain: &RegistryHost| registry == domain || registry.is_under(domain.as_str());
        if self.0.is_empty() || self.0.iter().any(is_in) {
            return Ok(());
        }
        let domains: Vec<_> = self.0.iter().map(RegistryHost::as_str).collect();
        Err(Problem::new(
            Reason::RegistryNotAllowed,
            format!(
                "registry {} is in none of the domains that the syncer allows (--allowed-acr-server-suffixes): {}",
                registry.as_str(),
                domains.join(", ")
            ),
        ))
    }
}

impl FromStr for AllowedServers {
    type Err = AllowedServersError;

    /// Separated by commas, as the peer reads them: in any case, with dots around them or empty parts.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split(',').map(|part| part.trim().trim_matches('.'));
        let domains = parts.filter(|part| !part.is_empty()).map(|part| {
            part.parse().map_err(|rule| AllowedServersError {
                domain: part.to_owned(),
                rule,
            })
        });
        Ok(Self(Arc::new(domains.collect::<Result<_, _>>()?)))
    }
}

impl FromIterator<Self> for AllowedServers {
    fn from_iter<T: IntoIterator<Item = Self>>(lists: T) -> Self {
        let domains = lists.into_iter().flat_map(|list| Arc::unwrap_or_clone(list.0));
        Self(Arc::new(domains.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(list: &str, registry: &str) -> Option<Problem> {
        let list: AllowedServers = list.parse().unwrap();
        list.check(&registry.parse().unwrap()).err()
    }

    #[test]
    fn allowed_servers_lie_in_one_of_the_domains_at_a_label_boundary() {
        for (list, registry, is_allowed) in [
            ("azurecr.io", "prod.azurecr.io", true),
            (" .AzureCR.io, , azurecr.us.", "prod.azurecr.us", true),
            ("azurecr.io", "prod.eastus.geo.azurecr.io", true),
            ("prod.azurecr.io", "prod.azurecr.io", true),
            ("prod.azurecr.io", "other.azurecr.io", false),
            ("azurecr.io", "evilazurecr.io", false),
            ("azurecr.io", "azurecr.io.evil.example", false),
            ("", "anything.example", true),
        ] {
            assert_eq!(
                refusal(list, registry).is_none(),
                is_allowed,
                "{registry} in {list:?}"
            );
        }
    }

    #[test]
    fn b8_refused_server_is_told_with_the_list() {
        let problem = refusal("azurecr.us,azurecr.io", "evil.example").unwrap();
        assert_eq!(problem.reason, Reason::RegistryNotAllowed);
        assert!(problem.message.contains("registry evil.example "), "{problem}");
        assert!(problem.message.ends_with(": azurecr.io, azurecr.us"), "{problem}");
    }

    #[test]
    fn allowed_servers_of_several_flags_count_together() {
        let lists =
            ["azurecr.io", "azurecr.us,azurecr.cn"].map(|list| list.parse::<AllowedServers>().unwrap());
        let all: AllowedServers = lists.into_iter().collect();
        assert_eq!(all, "azurecr.cn,azurecr.io,azurecr.us".parse().unwrap());
    }

    #[test]
    fn allowed_servers_that_are_no_domains_are_named() {
        for bad in [
            "io",
            "https://azurecr.io",
            "*.azurecr.io",
            "10.0.0.1",
            "azurecr.io:443",
        ] {
            let error = format!("azurecr.us,{bad}").parse::<AllowedServers>().unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }
}
