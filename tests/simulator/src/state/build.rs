//! A state in a chain of calls, for tests.

use super::{Cloud, Issuer, Principal, Registry, State, Tenant};
use crate::Service;

impl State {
    /// Adds a cloud beside the built-in three.
    #[must_use]
    pub fn with_cloud(mut self, cloud: Cloud) -> Self {
        self.clouds.push(cloud);
        self
    }

    /// Adds a tenant of the public cloud.
    #[must_use]
    pub fn with_tenant(self, id: &str) -> Self {
        self.with_tenant_in(id, "public")
    }

    /// Adds a tenant of the named cloud.
    #[must_use]
    pub fn with_tenant_in(mut self, id: &str, cloud: &str) -> Self {
        self.tenants.push(Tenant {
            id: id.to_owned(),
            domains: Vec::new(),
            cloud: cloud.to_owned(),
        });
        self
    }

    /// Adds an issuer.
    #[must_use]
    pub fn with_issuer(mut self, issuer: Issuer) -> Self {
        self.issuers.push(issuer);
        self
    }

    /// Adds an application or a managed identity.
    #[must_use]
    pub fn with_principal(mut self, principal: Principal) -> Self {
        self.principals.push(principal);
        self
    }

    /// Adds a managed identity and assigns it to the virtual machine.
    #[must_use]
    pub fn with_vm_identity(mut self, principal: Principal) -> Self {
        self.vm.user_assigned.extend(principal.resource_id.clone());
        self.principals.push(principal);
        self
    }

    /// Adds a registry.
    #[must_use]
    pub fn with_registry(mut self, registry: Registry) -> Self {
        self.registries.push(registry);
        self
    }

    /// Makes every call to the three services take this long.
    #[must_use]
    pub fn with_latency_ms(mut self, latency_ms: u64) -> Self {
        self.latency_ms = [Service::Entra, Service::Imds, Service::Acr]
            .map(|service| (service, latency_ms))
            .into();
        self
    }
}
