//! What one case has of Azure to itself: a cloud with its authority, a tenant, an application, a managed identity and a
//! registry. A throttled or silent authority is then nobody else's.

use azure_simulator::{Cloud, Principal};
use proto::v1::{
    BindingReference, BrokerOwnedIdentity, CloudReference, FederatedIdentity, GetDockerConfigRequest,
    broker_owned_identity::Selector, get_docker_config_request::Identity,
};

use super::{ACCOUNT, SCOPE, TEAM};
use crate::{Application, SUBSCRIPTION};

/// A cloud that the broker knows without being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltInCloud {
    /// Azure public.
    Public,
    /// Azure US Government.
    UsGovernment,
    /// Azure operated by 21Vianet.
    China,
}

/// What a site is to be like. A name alone makes one with a cloud of its own, as an operator declares it.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    name: String,
    built_in: Option<BuiltInCloud>,
    audience: Option<String>,
}

/// The part of Azure that belongs to one case. Every name in it follows from that of the case, every id from its number.
#[derive(Debug, Clone)]
pub struct Site {
    /// Name of the case, and of the managed identity in the broker's configuration.
    pub name: String,
    /// What the broker calls its cloud.
    pub cloud: String,
    /// The audience of registries, where the operator has named one.
    pub audience: Option<String>,
    /// Login server of the registry.
    pub registry: String,
    /// Host of the Entra authority.
    pub authority: String,
    /// Tenant.
    pub tenant: String,
    /// The application that trusts the ServiceAccount of [`TEAM`].
    pub application: Application,
    /// Client ID of the managed identity.
    pub identity_client_id: String,
    /// What roles of the managed identity are assigned to.
    pub identity_object_id: String,
    /// Resource ID of the managed identity.
    pub identity_resource_id: String,
    built_in: Option<BuiltInCloud>,
}

impl BuiltInCloud {
    /// The broker's name, the authority, and the domain of registries.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Public => ("PublicCloud", "login.microsoftonline.com", "azurecr.io"),
            Self::UsGovernment => ("USGovernmentCloud", "login.microsoftonline.us", "azurecr.us"),
            Self::China => ("ChinaCloud", "login.chinacloudapi.cn", "azurecr.cn"),
        }
    }

    /// The simulator's name.
    const fn simulated(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::UsGovernment => "usgov",
            Self::China => "china",
        }
    }
}

impl From<&str> for SiteOptions {
    fn from(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            built_in: None,
            audience: None,
        }
    }
}

impl From<String> for SiteOptions {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl SiteOptions {
    /// In one of the clouds that all share.
    #[must_use]
    pub fn in_cloud(self, cloud: BuiltInCloud) -> Self {
        Self {
            built_in: Some(cloud),
            ..self
        }
    }

    /// In a cloud of its own whose registries have an audience of their own.
    #[must_use]
    pub fn with_audience(self, audience: &str) -> Self {
        Self {
            audience: Some(audience.to_owned()),
            ..self
        }
    }
}

impl Site {
    pub(super) fn new(number: u16, options: SiteOptions) -> Self {
        let SiteOptions {
            name,
            built_in,
            audience,
        } = options;
        let id = |kind: u8| format!("{kind:08x}-0000-4000-8000-{number:012x}");
        let own = format!("{name}.login.example");
        let (cloud, authority, domain) = match built_in {
            Some(built_in) => built_in.names(),
            None => (&*name, &*own, "azurecr.io"),
        };
        Self {
            cloud: cloud.to_owned(),
            audience,
            built_in,
            registry: format!("{name}.{domain}"),
            authority: authority.to_owned(),
            tenant: id(1),
            application: Application {
                client_id: id(2),
                object_id: id(3),
            },
            identity_client_id: id(4),
            identity_object_id: id(5),
            identity_resource_id: format!(
                "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
            ),
            name,
        }
    }

    /// The simulator's cloud; none if it has that already.
    pub(super) fn simulated_cloud(&self) -> Option<Cloud> {
        if self.built_in.is_some() {
            return None;
        }
        let cloud = Cloud::named(&self.name, &self.authority, self.registry_domain());
        Some(match &self.audience {
            Some(audience) => Cloud {
                audiences: vec![audience.clone()],
                acr_audience: audience.clone(),
                ..cloud
            },
            None => cloud,
        })
    }

    /// What the simulator calls its cloud.
    pub(super) fn simulated_cloud_name(&self) -> &str {
        match self.built_in {
            Some(built_in) => built_in.simulated(),
            None => &self.name,
        }
    }

    /// Whether the broker knows its cloud without being told.
    pub(super) fn is_in_built_in_cloud(&self) -> bool {
        self.built_in.is_some()
    }

    /// The domain of its registry.
    pub(super) fn registry_domain(&self) -> &str {
        self.registry
            .split_once('.')
            .map_or(&*self.registry, |(_name, domain)| domain)
    }

    pub(super) fn simulated_application(&self) -> Principal {
        let Application { client_id, object_id } = &self.application;
        Principal::app(&self.tenant, client_id, object_id)
    }

    pub(super) fn simulated_identity(&self) -> Principal {
        Principal::user_assigned(
            &self.tenant,
            &self.identity_client_id,
            &self.identity_object_id,
            &self.identity_resource_id,
        )
    }

    /// A request for the application, with this token of the ServiceAccount.
    pub fn federated(&self, subject_token: &str) -> GetDockerConfigRequest {
        self.request(Identity::Federated(FederatedIdentity {
            tenant_id: self.tenant.clone(),
            client_id: self.application.client_id.clone(),
            subject_token: subject_token.to_owned(),
        }))
    }

    /// A request for the managed identity, which the broker gets from the metadata service.
    pub fn broker_owned(&self) -> GetDockerConfigRequest {
        self.request(Identity::BrokerOwned(BrokerOwnedIdentity {
            selector: Some(Selector::ClientId(self.identity_client_id.clone())),
        }))
    }

    fn request(&self, identity: Identity) -> GetDockerConfigRequest {
        GetDockerConfigRequest {
            binding: Some(BindingReference {
                namespace: TEAM.to_owned(),
                name: self.name.clone(),
                uid: "uid".to_owned(),
            }),
            service_accounts: vec![ACCOUNT.to_owned()],
            registry: self.registry.clone(),
            scopes: vec![SCOPE.to_owned()],
            cloud: Some(CloudReference {
                name: self.cloud.clone(),
                authority_host: String::new(),
            }),
            identity: Some(identity),
            ..GetDockerConfigRequest::default()
        }
    }
}
