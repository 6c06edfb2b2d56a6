//! What exists in the simulated Azure: clouds, tenants, identities, one virtual machine, registries.
//!
//! Plain data, strict on input: an unknown key, or a reference to something that is not there, is an
//! error and never a surprise later. Nothing here decides anything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ClockSettings, Service};

mod build;
mod directory;
mod federation;
mod issuer;
mod registry;
mod switches;
mod virtual_machine;

pub(crate) use directory::MANAGED_IDENTITY_TTL_S;
pub use directory::{Cloud, FederatedCredential, Principal, PrincipalKind, Tenant};
pub use issuer::{Issuer, IssuerKeys};
pub use registry::{ArmPolicy, Condition, Registry, Role, RoleAssignment, RoleMode};
pub use switches::{
    AccessTokenAsBasic, ChallengeService, InsufficientScope, PasswordGrant, RegistrySwitches,
};
pub use virtual_machine::{ExpiresIn, VirtualMachine};

/// The audience that every registry accepts, in every cloud.
pub const ACR_AUDIENCE: &str = "https://containerregistry.azure.net";

/// The whole simulated Azure. `PUT /_sim/state` replaces it, a [`crate::Handle`] edits it in place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Simulated time.
    pub clock: ClockSettings,
    /// National clouds; the three public ones unless given.
    pub clouds: Vec<Cloud>,
    /// Issuers of ServiceAccount tokens whose keys Entra can fetch.
    pub issuers: Vec<Issuer>,
    /// Entra tenants.
    pub tenants: Vec<Tenant>,
    /// Applications and managed identities.
    pub principals: Vec<Principal>,
    /// The machine whose metadata service the IMDS listener is.
    pub vm: VirtualMachine,
    /// Container registries.
    pub registries: Vec<Registry>,
    /// Token lifetimes that overrule all others.
    pub short_lived: ShortLived,
    /// How long each call takes, by service.
    pub latency_ms: BTreeMap<Service, u64>,
}

/// Token lifetimes that overrule those of principals and registries, for compressed time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShortLived {
    /// Entra access tokens, also those that IMDS hands out.
    pub entra_s: Option<u64>,
    /// ACR refresh tokens.
    pub refresh_s: Option<u64>,
    /// ACR access tokens.
    pub access_s: Option<u64>,
}

/// A state that contradicts itself.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Two entries share what must be unique.
    #[error("{kind} {name:?} is there twice")]
    Duplicate {
        /// What kind of thing.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A reference leads nowhere.
    #[error("{from} refers to {kind} {name:?}, which is not there")]
    Missing {
        /// What holds the reference.
        from: String,
        /// What kind of thing it names.
        kind: &'static str,
        /// The name.
        name: String,
    },
}

impl Default for State {
    fn default() -> Self {
        Self {
            clock: ClockSettings::default(),
            clouds: vec![Cloud::public(), Cloud::us_government(), Cloud::china()],
            issuers: Vec::new(),
            tenants: Vec::new(),
            principals: Vec::new(),
            vm: VirtualMachine::default(),
            registries: Vec::new(),
            short_lived: ShortLived::default(),
            latency_ms: BTreeMap::new(),
        }
    }
}

impl State {
    /// The registry that answers under `host`, which may be an alias.
    pub fn registry(&self, host: &str) -> Option<&Registry> {
        self.registries.iter().find(|registry| registry.answers_to(host))
    }

    /// The same, for a change.
    pub fn registry_mut(&mut self, host: &str) -> Option<&mut Registry> {
        self.registries
            .iter_mut()
            .find(|registry| registry.answers_to(host))
    }

    /// The principal with this client ID, in any tenant, for a change.
    pub fn principal_mut(&mut self, client_id: &str) -> Option<&mut Principal> {
        self.principals
            .iter_mut()
            .find(|principal| principal.client_id == client_id)
    }

    /// The tenant with this ID or domain.
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| {
            tenant.id.eq_ignore_ascii_case(name)
                || tenant
                    .domains
                    .iter()
                    .any(|domain| domain.eq_ignore_ascii_case(name))
        })
    }

    /// The cloud with this name.
    pub fn cloud(&self, name: &str) -> Option<&Cloud> {
        self.clouds.iter().find(|cloud| cloud.name == name)
    }

    /// The cloud whose authority is this host.
    pub fn cloud_of_authority(&self, host: &str) -> Option<&Cloud> {
        self.clouds.iter().find(|cloud| cloud.answers_to(host))
    }

    /// Rejects what contradicts itself.
    ///
    /// # Errors
    /// [`StateError`] names the first contradiction.
    pub fn check(&self) -> Result<(), StateError> {
        unique("cloud", self.clouds.iter().map(|cloud| cloud.name.as_str()))?;
        unique("issuer", self.issuers.iter().map(|issuer| issuer.url.as_str()))?;
        unique("tenant", self.tenants.iter().map(|tenant| tenant.id.as_str()))?;
        unique("registry host", self.registries.iter().flat_map(Registry::hosts))?;
        unique(
            "object ID",
            self.principals
                .iter()
                .map(|principal| principal.object_id.as_str()),
        )?;
        for tenant in &self.tenants {
            let from = format!("tenant {}", tenant.id);
            present(from, "cloud", &tenant.cloud, self.cloud(&tenant.cloud).is_some())?;
        }
        for principal in &self.principals {
            let from = format!("principal {}", principal.client_id);
            present(
                from,
                "tenant",
                &principal.tenant,
                self.tenant(&principal.tenant).is_some(),
            )?;
            if let Some(home) = &principal.home_tenant {
                let from = format!("principal {} in tenant {}", principal.client_id, principal.tenant);
                let known = self.application_of(principal).is_some();
                present(from, "application in tenant", home, known)?;
            }
        }
        for registry in &self.registries {
            let from = || format!("registry {}", registry.host);
            present(
                from(),
                "tenant",
                &registry.tenant,
                self.tenant(&registry.tenant).is_some(),
            )?;
            for role in &registry.roles {
                let known = self
                    .principals
                    .iter()
                    .any(|principal| principal.object_id == role.object_id);
                present(from(), "object ID", &role.object_id, known)?;
            }
        }
        for id in &self.vm.user_assigned {
            let known = self
                .principals
                .iter()
                .any(|principal| principal.has_resource_id(id));
            present("vm".to_owned(), "resource ID", id, known)?;
        }
        if let Some(id) = &self.vm.system_assigned {
            let known = self.principals.iter().any(|principal| &principal.object_id == id);
            present("vm".to_owned(), "object ID", id, known)?;
        }
        Ok(())
    }
}

fn unique<'a>(kind: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), StateError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(StateError::Duplicate {
                kind,
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}

fn present(from: String, kind: &'static str, name: &str, known: bool) -> Result<(), StateError> {
    if known {
        Ok(())
    } else {
        Err(StateError::Missing {
            from,
            kind,
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_unknown_key_is_refused() {
        let error = serde_json::from_str::<State>(r#"{"registrys":[]}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `registrys`"), "{error}");
    }

    #[test]
    fn state_survives_json() {
        let state = State::default()
            .with_tenant("t1")
            .with_issuer(Issuer::simulated("https://oidc.example/"))
            .with_vm_identity(Principal::user_assigned("t1", "c1", "o1", "/subscriptions/s/id1"))
            .with_registry(Registry::new("a.azurecr.io", "t1").with_role("o1", Role::AcrPull));
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        assert_eq!(state.check(), Ok(()));
    }

    #[test]
    fn state_role_of_nobody_is_refused() {
        let state = State::default()
            .with_tenant("t1")
            .with_registry(Registry::new("a.azurecr.io", "t1").with_role("ghost", Role::AcrPull));
        let error = state.check().unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"registry a.azurecr.io refers to object ID "ghost", which is not there"#
        );
    }

    #[test]
    fn state_service_principal_of_no_application_is_refused() {
        let present = Principal::of_application("t1", "t2", "c1", "o2");
        let state = State::default()
            .with_tenant("t1")
            .with_tenant("t2")
            .with_principal(present.clone());
        assert_eq!(
            state.check().unwrap_err().to_string(),
            r#"principal c1 in tenant t2 refers to application in tenant "t1", which is not there"#
        );
        let state = state.with_principal(Principal::app("t1", "c1", "o1"));
        assert_eq!(state.check(), Ok(()));
    }

    #[test]
    fn state_host_twice_is_refused() {
        let state = State::default()
            .with_tenant("t1")
            .with_registry(Registry::new("a.azurecr.io", "t1"))
            .with_registry(Registry::new("a.azurecr.io", "t1"));
        assert!(matches!(
            state.check(),
            Err(StateError::Duplicate {
                kind: "registry host",
                ..
            })
        ));
    }
}
