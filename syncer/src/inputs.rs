//! Hashes over what a credential depends on: when one changes, the credential in the Secret is the wrong one.
//!
//! Two of them. Ours, here, covers everything, in an encoding that no two different inputs share. The peer's, in
//! `inputs::peer`, covers what the peer looks at. Pure.

mod peer;

use aws_lc_rs::digest;

pub use peer::{base36_sha224, peer};

use crate::crd::{
    AcrConfiguration, AcrPullBindingSpec, AirgappedCloudConfiguration, AuthenticationMethod,
    AzureEnvironment, ManagedIdentityAuth, WorkloadIdentityAuth,
};

/// Begins every encoding. To be changed when the encoding changes: every credential is then fetched once more.
const ENCODING: &str = "acrpull-inputs-v1";

/// The identity in Entra ID that was found for a workload identity, in the spec or on the ServiceAccount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedIdentity<'a> {
    /// Client ID.
    pub client_id: &'a str,
    /// Tenant; none means the default of the cluster.
    pub tenant_id: Option<&'a str>,
}

/// The hash over all inputs, as 64 hexadecimal digits.
///
/// Every type is taken apart without `..`: a new field does not compile until it is decided whether it counts.
pub fn full(spec: &AcrPullBindingSpec, resolved: Option<ResolvedIdentity<'_>>) -> String {
    let AcrPullBindingSpec {
        acr,
        auth,
        service_account_name,
        // Read together, without order and repetition.
        service_account_names: _,
    } = spec;
    let AcrConfiguration {
        server,
        scope,
        environment,
        cloud_config,
    } = acr;
    let AuthenticationMethod {
        managed_identity,
        workload_identity,
    } = auth;

    let mut encoding = Encoding::default();
    encoding.text(ENCODING);
    encoding.text(service_account_name);
    encoding.text(server);
    encoding.text(scope);
    encoding.text(environment.as_str());
    encoding.optional(cloud_config.as_ref(), |encoding, cloud| {
        let AirgappedCloudConfiguration {
            entra_authority_host,
            resource_manager_audience,
        } = cloud;
        encoding.text(entra_authority_host);
        encoding.text(resource_manager_audience);
    });
    encoding.optional(managed_identity.as_ref(), |encoding, identity| {
        let ManagedIdentityAuth {
            client_id,
            resource_id,
        } = identity;
        encoding.optional(client_id.as_ref(), |encoding, text| encoding.text(text));
        encoding.optional(resource_id.as_ref(), |encoding, text| encoding.text(text));
    });
    encoding.optional(workload_identity.as_ref(), |encoding, identity| {
        // What these two say is in `resolved`, together with what the ServiceAccount says.
        let WorkloadIdentityAuth {
            service_account_ref,
            client_id: _,
            tenant_id: _,
        } = identity;
        encoding.text(service_account_ref);
    });
    encoding.optional(resolved.as_ref(), |encoding, identity| {
        let ResolvedIdentity { client_id, tenant_id } = identity;
        encoding.text(client_id);
        encoding.optional(tenant_id.as_ref(), |encoding, text| encoding.text(text));
    });
    // Nothing at all where there is one ServiceAccount: the hash is then the one from before there could be more.
    for account in spec.accounts().into_iter().skip(1) {
        encoding.text(account);
    }
    hex(digest::digest(&digest::SHA256, &encoding.0).as_ref())
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            for digit in [byte >> 4, byte & 0xf] {
                text.extend(char::from_digit(u32::from(digit), 16));
            }
            text
        })
}

/// The reverse of [`hex`].
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let bytes = text.as_bytes().chunks(2);
    bytes
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// Every text with its length before it and every option with its presence: no two inputs give the same bytes.
#[derive(Default)]
struct Encoding(Vec<u8>);

impl Encoding {
    fn text(&mut self, text: &str) {
        self.0.extend((text.len() as u64).to_be_bytes());
        self.0.extend(text.as_bytes());
    }

    fn optional<T>(&mut self, value: Option<&T>, encode: impl FnOnce(&mut Self, &T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            encode(self, value);
        }
    }
}

impl AzureEnvironment {
    /// The name as it stands in a manifest, and as the broker knows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PublicCloud => "PublicCloud",
            Self::USGovernmentCloud => "USGovernmentCloud",
            Self::ChinaCloud => "ChinaCloud",
            Self::AirgappedCloud => "AirgappedCloud",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::samples::{managed_identity_spec, workload_identity_spec};

    /// What Secrets of clusters carry: another value would fetch every token once more.
    #[test]
    fn full_hash_of_a_binding_with_one_account_is_the_one_of_earlier_versions() {
        let resolved = ResolvedIdentity {
            client_id: "client",
            tenant_id: Some("tenant"),
        };
        assert_eq!(
            full(&workload_identity_spec(), Some(resolved)),
            "7cabb129ace7e3233fe9570d53f45f74565005934bc7d1e39e8a919f14224f5f"
        );
    }

    #[test]
    fn full_hash_takes_accounts_as_a_set() {
        let hash = |names: &[&str]| {
            let mut spec = workload_identity_spec();
            spec.service_account_names = names.iter().map(|name| (*name).to_owned()).collect();
            full(&spec, None)
        };
        assert_eq!(hash(&["a", "b"]), hash(&["b", "a"]));
        assert_eq!(hash(&["a", "b"]), hash(&["b", "web", "a", "b"]));
        assert_eq!(hash(&["web"]), hash(&[]));
        assert_ne!(hash(&["a", "b"]), hash(&["a"]));
    }

    #[test]
    fn full_hash_changes_with_every_input() {
        let spec = workload_identity_spec();
        let resolved = ResolvedIdentity {
            client_id: "client",
            tenant_id: Some("tenant"),
        };
        let change = |edit: fn(&mut AcrPullBindingSpec)| {
            let mut spec = spec.clone();
            edit(&mut spec);
            full(&spec, Some(resolved))
        };
        let hashes = [
            full(&spec, Some(resolved)),
            full(&spec, None),
            full(
                &spec,
                Some(ResolvedIdentity {
                    client_id: "other",
                    ..resolved
                }),
            ),
            full(
                &spec,
                Some(ResolvedIdentity {
                    tenant_id: None,
                    ..resolved
                }),
            ),
            full(
                &spec,
                Some(ResolvedIdentity {
                    tenant_id: Some("other"),
                    ..resolved
                }),
            ),
            full(
                &spec,
                Some(ResolvedIdentity {
                    client_id: "clienttenant",
                    tenant_id: None,
                }),
            ),
            change(|spec| spec.service_account_name = "other".to_owned()),
            change(|spec| spec.service_account_names = vec!["other".to_owned()]),
            change(|spec| spec.service_account_names = vec!["ot".to_owned(), "her".to_owned()]),
            change(|spec| spec.acr.server = "other.azurecr.io".to_owned()),
            change(|spec| spec.acr.scope = "repository:other:pull".to_owned()),
            change(|spec| spec.acr.environment = AzureEnvironment::ChinaCloud),
            change(|spec| {
                spec.acr.cloud_config = Some(AirgappedCloudConfiguration {
                    entra_authority_host: "https://login.example".to_owned(),
                    resource_manager_audience: "https://arm.example".to_owned(),
                });
            }),
            change(|spec| {
                spec.auth.workload_identity.as_mut().unwrap().service_account_ref = "other".to_owned();
            }),
            full(&managed_identity_spec(), None),
        ];
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
        assert!(hashes.iter().all(|hash| hash.len() == 64));
    }

    #[test]
    fn full_hash_keeps_neighbouring_fields_apart() {
        let mut one = workload_identity_spec();
        one.service_account_name = "ab".to_owned();
        one.acr.server = "c.azurecr.io".to_owned();
        let mut other = one.clone();
        other.service_account_name = "a".to_owned();
        other.acr.server = "bc.azurecr.io".to_owned();
        assert_ne!(full(&one, None), full(&other, None));
    }

    #[test]
    fn hex_reads_back() {
        assert_eq!(unhex(&hex(&[0, 255, 16])), Some(vec![0, 255, 16]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("zz"), None);
    }
}
