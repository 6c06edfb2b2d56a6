//! Reads a binding of `v1beta1`, as the peer reads it: what it leaves out, or leaves empty, has a default.

use super::{AccountRef, ApiVersion, Binding};
use crate::crd::{
    AcrConfiguration, AcrPullBindingSpec, AuthenticationMethod, AzureEnvironment, ManagedIdentityAuth,
    v1beta1,
};

/// The ServiceAccount of a binding that names none.
const DEFAULT_ACCOUNT: &str = "default";

/// What bindings of `v1beta1` mean when they leave something out. Empty means that there is no default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Host name of the registry.
    pub acr_server: String,
    /// Client ID of the identity.
    pub managed_identity_client_id: String,
    /// Resource ID of the identity.
    pub managed_identity_resource_id: String,
}

impl Defaults {
    /// The binding with all that it leaves out.
    pub fn complete(&self, binding: v1beta1::AcrPullBinding) -> Binding {
        let v1beta1::AcrPullBinding {
            metadata,
            spec,
            status,
        } = binding;
        Binding {
            api: ApiVersion::V1Beta1,
            metadata,
            spec: self.spec(spec),
            account_ref: AccountRef::default(),
            status,
        }
    }

    fn spec(&self, spec: v1beta1::AcrPullBindingSpec) -> AcrPullBindingSpec {
        let v1beta1::AcrPullBindingSpec {
            acr_server,
            scope,
            managed_identity_client_id,
            managed_identity_resource_id,
            service_account_name,
        } = spec;
        let server = or(acr_server, &self.acr_server);
        let environment = environment_of(&server);
        let resource_id = managed_identity_resource_id.as_deref().map(clean);
        let identity = ManagedIdentityAuth {
            client_id: not_empty(or(
                managed_identity_client_id.unwrap_or_default(),
                &self.managed_identity_client_id,
            )),
            resource_id: not_empty(or(
                resource_id.unwrap_or_default(),
                &self.managed_identity_resource_id,
            )),
        };
        AcrPullBindingSpec {
            acr: AcrConfiguration {
                server,
                scope: scope.unwrap_or_default(),
                environment,
                cloud_config: None,
            },
            auth: AuthenticationMethod {
                managed_identity: Some(identity),
                workload_identity: None,
            },
            service_account_name: account_of(service_account_name.as_deref()).to_owned(),
            service_account_names: Vec::new(),
        }
    }
}

/// The ServiceAccount of a binding that names this one, or none.
pub fn account_of(name: Option<&str>) -> &str {
    name.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_ACCOUNT)
}

/// `v1beta1` does not say in which cloud a registry is. Its domain does.
fn environment_of(server: &str) -> AzureEnvironment {
    let server = server.to_ascii_lowercase();
    match server.rsplit_once(".azurecr.") {
        Some((_, "us")) => AzureEnvironment::USGovernmentCloud,
        Some((_, "cn")) => AzureEnvironment::ChinaCloud,
        Some(_) | None => AzureEnvironment::PublicCloud,
    }
}

fn or(text: String, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text }
}

fn not_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// The path as the peer cleans it: no needless slashes, `.` and `..` resolved; nothing at all stays nothing.
fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            // There is nothing above the root.
            ".." if is_rooted => {}
            part => parts.push(part),
        }
    }
    let clean = parts.join("/");
    if is_rooted { format!("/{clean}") } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::older_spec;

    const CLIENT: &str = "33333333-3333-3333-3333-000000000003";
    const RESOURCE: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller";

    fn defaults() -> Defaults {
        Defaults {
            acr_server: "default.azurecr.io".to_owned(),
            managed_identity_client_id: CLIENT.to_owned(),
            managed_identity_resource_id: RESOURCE.to_owned(),
        }
    }

    fn empty_spec() -> v1beta1::AcrPullBindingSpec {
        v1beta1::AcrPullBindingSpec {
            acr_server: String::new(),
            scope: None,
            managed_identity_client_id: None,
            managed_identity_resource_id: None,
            service_account_name: None,
        }
    }

    /// As the peer writes it back.
    fn blank_spec() -> v1beta1::AcrPullBindingSpec {
        let blank = || Some(String::new());
        v1beta1::AcrPullBindingSpec {
            acr_server: String::new(),
            scope: blank(),
            managed_identity_client_id: blank(),
            managed_identity_resource_id: blank(),
            service_account_name: blank(),
        }
    }

    #[test]
    fn older_binding_that_says_nothing_has_every_default() {
        for spec in [empty_spec(), blank_spec()] {
            let spec = defaults().spec(spec);
            let identity = spec.auth.managed_identity.unwrap();
            assert_eq!(spec.service_account_name, "default");
            assert_eq!(spec.acr.server, "default.azurecr.io");
            assert_eq!(spec.acr.scope, "");
            assert_eq!(identity.client_id.as_deref(), Some(CLIENT));
            assert_eq!(identity.resource_id.as_deref(), Some(RESOURCE));
        }
    }

    #[test]
    fn older_binding_without_defaults_has_no_identity_and_no_server() {
        let spec = Defaults::default().spec(blank_spec());
        assert_eq!(
            spec.auth.managed_identity.unwrap(),
            ManagedIdentityAuth {
                client_id: None,
                resource_id: None
            }
        );
        assert_eq!(spec.acr.server, "");
    }

    #[test]
    fn older_binding_that_says_something_wins_over_defaults() {
        let spec = defaults().spec(older_spec());
        assert_eq!(spec.service_account_name, "web");
        assert_eq!(spec.acr.server, "prod.azurecr.io");
        assert_eq!(spec.acr.scope, "repository:team/web:pull");
        assert_eq!(
            spec.auth.managed_identity.unwrap().client_id.as_deref(),
            Some("33333333-3333-3333-3333-000000000009")
        );
    }

    #[test]
    fn older_binding_is_in_the_cloud_of_its_registrys_domain() {
        for (server, environment) in [
            ("prod.azurecr.io", AzureEnvironment::PublicCloud),
            ("prod.azurecr.us", AzureEnvironment::USGovernmentCloud),
            ("Prod.AzureCR.cn", AzureEnvironment::ChinaCloud),
            ("prod.registry.example", AzureEnvironment::PublicCloud),
            ("azurecr.us.evil.example", AzureEnvironment::PublicCloud),
        ] {
            assert_eq!(environment_of(server), environment, "{server}");
        }
    }

    #[test]
    fn older_resource_id_is_cleaned_as_the_peer_cleans_it() {
        for (path, cleaned) in [
            ("", ""),
            (".", ""),
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("//a///b/", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../a", "/a"),
            ("a/../../b", "../b"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }
}
