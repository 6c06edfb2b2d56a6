//! The names that follow from a binding's: of its Secret and of the label on it, the same as the peer's. Pure.

use kube::ResourceExt as _;

use crate::{
    binding::{ApiVersion, Binding},
    inputs,
};

/// Begins the names of Secrets of `v1beta2`.
const PREFIX: &str = "acr-pull-";
/// Ends the names of Secrets of `v1beta1`.
const SUFFIX: &str = "-msi-acrpull-secret";
/// Longest name of an object.
const MAX_NAME: usize = 253;
/// From here on the peer shortens the name of a binding of `v1beta2` and adds a hyphen and ten digits of a hash.
const MAX_WHOLE_CURRENT: usize = MAX_NAME - PREFIX.len() - HASH_DIGITS - 1;
/// With a longer name a binding of `v1beta1` never worked on the peer.
const MAX_WHOLE_OLDER: usize = MAX_NAME - SUFFIX.len();
/// Longest value of a label.
const MAX_LABEL: usize = 63;
/// Digits of the hash in a shortened name.
const HASH_DIGITS: usize = 10;

/// The name of the pull Secret of a binding.
pub fn name_of(binding: &Binding) -> String {
    name_for(binding.api, &binding.name_any())
}

/// The name of the pull Secret of a binding with this name.
pub fn name_for(api: ApiVersion, binding: &str) -> String {
    match api {
        ApiVersion::V1Beta2 => match binding.get(..MAX_WHOLE_CURRENT) {
            Some(head) if binding.len() > MAX_WHOLE_CURRENT => {
                let head = head.strip_suffix('.').unwrap_or(head);
                format!("{PREFIX}{head}-{}", short_hash(binding))
            }
            _ => format!("{PREFIX}{binding}"),
        },
        ApiVersion::V1Beta1 => format!("{}{SUFFIX}", shortened(binding, MAX_WHOLE_OLDER)),
    }
}

/// The API whose Secrets are named like this one. A name may look like one of each: then that of `v1beta2`.
pub fn api_of_name(secret: &str) -> Option<ApiVersion> {
    if secret.starts_with(PREFIX) {
        Some(ApiVersion::V1Beta2)
    } else if secret.ends_with(SUFFIX) {
        Some(ApiVersion::V1Beta1)
    } else {
        None
    }
}

/// The value of the label. Names over 63 characters, with which the peer never worked, are shortened.
pub(super) fn label_for(binding: &str) -> String {
    shortened(binding, MAX_LABEL)
}

/// The name, or as much of it as leaves room for a hash over all of it.
fn shortened(name: &str, max: usize) -> String {
    if name.len() <= max {
        return name.to_owned();
    }
    let head: String = name.chars().take(max - HASH_DIGITS - 1).collect();
    format!("{}-{}", head.trim_end_matches(['.', '-']), short_hash(name))
}

fn short_hash(name: &str) -> String {
    inputs::base36_sha224(name.as_bytes())
        .chars()
        .take(HASH_DIGITS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_name_is_the_peers() {
        assert_eq!(name_for(ApiVersion::V1Beta2, "web"), "acr-pull-web");
        let whole = "a".repeat(233);
        assert_eq!(name_for(ApiVersion::V1Beta2, &whole), format!("acr-pull-{whole}"));
        let long = format!("{}.{}", "a".repeat(232), "b");
        let name = name_for(ApiVersion::V1Beta2, &long);
        assert_eq!(
            name,
            format!("acr-pull-{}-{}", "a".repeat(232), short_hash(&long))
        );
        assert_eq!(name_for(ApiVersion::V1Beta2, &"a".repeat(253)).len(), 253);
    }

    #[test]
    fn b7_secret_label_fits_for_every_name() {
        assert_eq!(label_for(&"a".repeat(63)), "a".repeat(63));
        for name in ["a".repeat(64), format!("{}.{}", "a".repeat(51), "b".repeat(100))] {
            let label = label_for(&name);
            assert!(label.len() <= 63, "{label}");
            assert!(
                label
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.'),
                "{label}"
            );
            assert!(!label.contains(".-"), "{label}");
        }
        assert_ne!(label_for(&"a".repeat(64)), label_for(&"a".repeat(65)));
    }

    #[test]
    fn secret_name_of_the_older_api_is_the_peers_and_never_too_long() {
        assert_eq!(name_for(ApiVersion::V1Beta1, "web"), "web-msi-acrpull-secret");
        let whole = "a".repeat(234);
        assert_eq!(
            name_for(ApiVersion::V1Beta1, &whole),
            format!("{whole}-msi-acrpull-secret")
        );
        for length in [235, 253] {
            let long = "a".repeat(length);
            let name = name_for(ApiVersion::V1Beta1, &long);
            assert_eq!(name.len(), 253);
            assert!(
                name.ends_with(&format!("{}-msi-acrpull-secret", short_hash(&long))),
                "{name}"
            );
        }
    }

    #[test]
    fn secret_name_says_which_api_it_is_of() {
        for api in ApiVersion::ALL {
            assert_eq!(api_of_name(&name_for(api, "web")), Some(api));
        }
        assert_eq!(api_of_name("registry-login"), None);
    }
}
