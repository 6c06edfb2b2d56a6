//! What one case has of Azure to itself: a cloud with its authority, a tenant, an application, a managed identity and a
//! registry. A throttled or silent authority is then nobody else's.

use azure_simulator::{Cloud, Principal};
use proto::v1::{
    BindingReference, BrokerOwnedIdentity, CloudReference, FederatedIdentity, GetDockerConfigRequest,
    broker_owned_identity::Selector, get_docker_config_request::Identity,
};

use super::{ACCOUNT, SCOPE, TEAM};
use crate::{Application, SUBSCRIPTION};

/// The part of Azure that belongs to one case. Every name in it follows from that of the case, every id from its number.
#[derive(Debug, Clone)]
pub struct Site {
    /// Name of the case, and of the cloud and the managed identity in the broker's configuration.
    pub name: String,
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
}

impl Site {
    pub(super) fn new(number: u16, name: String) -> Self {
        let id = |kind: u8| format!("{kind:08x}-0000-4000-8000-{number:012x}");
        Self {
            registry: format!("{name}.azurecr.io"),
            authority: format!("{name}.login.example"),
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

    pub(super) fn simulated_cloud(&self) -> Cloud {
        Cloud::named(&self.name, &self.authority, "azurecr.io")
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
                name: self.name.clone(),
                authority_host: String::new(),
            }),
            identity: Some(identity),
            ..GetDockerConfigRequest::default()
        }
    }
}
