//! The namespaces that the syncer works in: all of the cluster, or those that were named. Named ones are listed and
//! watched one by one, so that Roles in them are all the rights that it takes. Pure.

use std::str::FromStr;

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};

/// Longest name (RFC 1123, a DNS label).
const MAX_NAME: usize = 63;

/// The name of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace(String);

/// Why a text is no name of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be the name of a namespace: up to 63 lower-case letters, digits and '-', with no '-' at an end"
)]
pub struct NamespaceError;

/// Where to work.
#[derive(Debug, Clone, Default)]
pub struct Namespaces(Vec<Namespace>);

/// Objects of one namespace, or of all.
pub struct Part<K> {
    /// None means all.
    pub namespace: Option<String>,
    /// Lists and watches them.
    pub api: Api<K>,
}

impl Namespaces {
    /// Those that were named; none means all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|Namespace(name)| name.as_str())
    }

    /// How to reach the objects of a kind: all at once, or namespace by namespace.
    pub fn parts<K>(&self, client: &Client) -> Vec<Part<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        if self.0.is_empty() {
            return vec![Part {
                namespace: None,
                api: Api::all(client.clone()),
            }];
        }
        let part = |Namespace(name): &Namespace| Part {
            namespace: Some(name.clone()),
            api: Api::namespaced(client.clone(), name),
        };
        self.0.iter().map(part).collect()
    }
}

impl FromIterator<Namespace> for Namespaces {
    fn from_iter<T: IntoIterator<Item = Namespace>>(names: T) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort();
        names.dedup();
        Self(names)
    }
}

impl FromStr for Namespace {
    type Err = NamespaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let is_label = !text.is_empty()
            && text.len() <= MAX_NAME
            && !text.starts_with('-')
            && !text.ends_with('-')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if is_label {
            Ok(Self(text.to_owned()))
        } else {
            Err(NamespaceError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_is_a_dns_label() {
        for name in ["shop", "team-7", "0", " shop "] {
            assert!(name.parse::<Namespace>().is_ok(), "{name}");
        }
        let long = "x".repeat(64);
        for name in [
            "",
            "Shop",
            "-shop",
            "shop-",
            "shop.web",
            "shop/web",
            "*",
            long.as_str(),
        ] {
            assert_eq!(name.parse::<Namespace>(), Err(NamespaceError), "{name}");
        }
    }

    #[test]
    fn namespaces_named_twice_count_once() {
        let names = ["b", "a", "b"].map(|name| name.parse::<Namespace>().unwrap());
        let namespaces: Namespaces = names.into_iter().collect();
        assert_eq!(namespaces.names().collect::<Vec<_>>(), ["a", "b"]);
    }
}
