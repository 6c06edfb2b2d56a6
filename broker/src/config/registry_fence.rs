//! Which hosts are registries: the fence that no token leaves. Pure.
//!
//! It is asked three times, and each time by itself: by the policy before anything is fetched, by the transport before
//! bytes leave, and by the resolver for which names addresses are judged.

use std::{collections::BTreeSet, fmt};

use proto::types::RegistryHost;

/// Hosts by their exact names, and domains under which every host is a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryFence {
    hosts: BTreeSet<RegistryHost>,
    domains: BTreeSet<String>,
}

impl RegistryFence {
    /// A fence around these hosts and what lies under these domains, which are in lower case.
    pub fn new(
        hosts: impl IntoIterator<Item = RegistryHost>,
        domains: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            hosts: hosts.into_iter().collect(),
            domains: domains.into_iter().collect(),
        }
    }

    /// One around everything that is inside of any of these.
    pub fn around<'a>(fences: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        for fence in fences {
            all.hosts.extend(fence.hosts.iter().cloned());
            all.domains.extend(fence.domains.iter().cloned());
        }
        all
    }

    /// Whether a token may go to `host`.
    pub fn allows(&self, host: &RegistryHost) -> bool {
        self.hosts.contains(host) || self.domains.iter().any(|domain| host.is_under(domain))
    }

    /// The domains, for people. Exact hosts are not shown to callers: they are other people's registries.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.iter().map(String::as_str)
    }

    /// The first host or domain that is not inside of `other`.
    pub fn first_outside(&self, other: &Self) -> Option<&str> {
        let is_covered = |domain: &str| {
            other.domains.contains(domain)
                || domain
                    .parse::<RegistryHost>()
                    .is_ok_and(|host| other.domains.iter().any(|above| host.is_under(above)))
        };
        let new_domain = self.domains().find(|domain| !is_covered(domain));
        new_domain.or_else(|| {
            let new_host = self.hosts.iter().find(|host| !other.allows(host));
            new_host.map(RegistryHost::as_str)
        })
    }
}

impl fmt::Display for RegistryFence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domains = self.domains().map(|domain| format!("*.{domain}"));
        let all: Vec<String> = domains
            .chain(self.hosts.iter().map(ToString::to_string))
            .collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(hosts: &[&str], domains: &[&str]) -> RegistryFence {
        RegistryFence::new(
            hosts.iter().map(|host| host.parse().unwrap()),
            domains.iter().map(|&domain| domain.to_owned()),
        )
    }

    #[test]
    fn e1_fence_is_exact_for_hosts_and_ends_domains_at_labels() {
        let fence = fence(
            &["prod.azurecr.io", "dev.azurecr.io"],
            &["azurecr.airgap.example"],
        );
        for (host, is_inside) in [
            ("prod.azurecr.io", true),
            ("PROD.AzureCR.io", true),
            ("dev.azurecr.io", true),
            ("other.azurecr.io", false),
            ("prod.weu.geo.azurecr.io", false),
            ("a.prod.azurecr.io", false),
            ("prod.azurecr.io.evil.example", false),
            ("a.azurecr.airgap.example", true),
            ("a.b.azurecr.airgap.example", true),
            ("azurecr.airgap.example", false),
            ("evilazurecr.airgap.example", false),
        ] {
            assert_eq!(fence.allows(&host.parse().unwrap()), is_inside, "{host}");
        }
        assert_eq!(
            fence.to_string(),
            "*.azurecr.airgap.example, dev.azurecr.io, prod.azurecr.io"
        );
        assert!(!RegistryFence::default().allows(&"prod.azurecr.io".parse().unwrap()));
    }

    #[test]
    fn fence_that_is_narrower_has_nothing_outside() {
        let wide = fence(&["one.example.com"], &["azurecr.io"]);
        for (hosts, domains, outside) in [
            (&["one.example.com"][..], &["azurecr.io"][..], None),
            (&["prod.azurecr.io"], &[], None),
            (&[], &["geo.azurecr.io"], None),
            (&["two.example.com"], &[], Some("two.example.com")),
            (&[], &["example.com"], Some("example.com")),
            (&[], &["io.evil"], Some("io.evil")),
        ] {
            assert_eq!(fence(hosts, domains).first_outside(&wide), outside);
        }
        let all = RegistryFence::around([&wide, &fence(&[], &["azurecr.us"])]);
        assert_eq!(wide.first_outside(&all), None);
        assert!(all.allows(&"a.azurecr.us".parse().unwrap()));
    }
}
