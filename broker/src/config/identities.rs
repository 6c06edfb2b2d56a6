//! Identities that the broker itself holds: who they are, where their tokens come from, and what they become.

use std::{path::PathBuf, sync::Arc};

use proto::types::{AzureId, ResourceId, TenantId};

use super::Cloud;

/// An identity that the broker itself holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name in grants, logs and the audit.
    pub name: Arc<str>,
    /// Its cloud.
    pub cloud: Arc<Cloud>,
    /// Its tenant.
    pub tenant: TenantId,
    /// How a request may name it, and how the metadata service does.
    pub client_id: Option<AzureId>,
    /// The other way to name it.
    pub resource_id: Option<ResourceId>,
    /// Where its own token comes from.
    pub source: IdentitySource,
    /// Whom it becomes at registries, if not itself.
    pub application: Option<Application>,
}

/// Where an identity's own Entra token comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IdentitySource {
    /// The metadata service of the machine that the broker runs on.
    Imds,
    /// The broker's own ServiceAccount token, which a federated credential of the identity trusts.
    ProjectedToken {
        /// Where the kubelet writes it, again and again.
        file: PathBuf,
        /// The identity that trusts it.
        client: AzureId,
    },
}

/// An application, usually one that is present in many tenants, that trusts a managed identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Application {
    /// The tenant whose registries are meant: the application has a service principal there.
    pub tenant: TenantId,
    /// The application.
    pub client: AzureId,
    /// The audience of the token with which the identity shows itself to Entra.
    pub audience: String,
}

impl Identity {
    /// How it gets to a registry token, in words for operators.
    pub fn way(&self) -> String {
        let source = match &self.source {
            IdentitySource::Imds => "the metadata service".to_owned(),
            IdentitySource::ProjectedToken { file, .. } => {
                format!("the broker's own token in {}", file.display())
            }
        };
        let application = self.application.as_ref().map_or_else(String::new, |application| {
            let Application {
                tenant,
                client,
                audience,
            } = application;
            format!(", then as application {client} of tenant {tenant} with a token for {audience}")
        });
        format!("from {source}{application}")
    }

    /// What its own token is for: the registries, or Entra itself where the identity becomes an application.
    pub fn own_audience(&self) -> &str {
        match &self.application {
            None => &self.cloud.registry_audience,
            Some(application) => &application.audience,
        }
    }
}
