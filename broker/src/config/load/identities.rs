//! Broker-owned identities: each from one source, for one way to the registries that Entra would go along with.

use std::{collections::BTreeSet, sync::Arc};

use proto::types::AzureId;

use super::{
    Folder,
    field::{ConfigError, content, one, optional},
};
use crate::config::{Application, Cloud, Clouds, Identity, IdentitySource, file};

pub(super) fn identity(
    folder: &Folder,
    field: &str,
    identity: file::Identity,
    clouds: &Clouds,
) -> Result<Arc<Identity>, ConfigError> {
    let file::Identity {
        name,
        cloud,
        tenant,
        client_id,
        resource_id,
        source,
        application,
    } = identity;
    if client_id.is_none() && resource_id.is_none() {
        return Err(content(field, "set clientId, resourceId, or both"));
    }
    let cloud = clouds.named(&cloud).ok_or_else(|| {
        let known: Vec<&str> = clouds.iter().map(|cloud| &*cloud.name).collect();
        content(
            format!("{field}.cloud"),
            format!("{cloud:?} is not a cloud; known are {}", known.join(", ")),
        )
    })?;
    let client_id = optional(&format!("{field}.clientId"), client_id)?;
    let source = source_of(folder, field, source, client_id.as_ref())?;
    let application = application
        .map(|application| application_of(field, application, &source, cloud))
        .transpose()?;
    Ok(Arc::new(Identity {
        name: name.into(),
        cloud: Arc::clone(cloud),
        tenant: one(&format!("{field}.tenant"), &tenant)?,
        client_id,
        resource_id: optional(&format!("{field}.resourceId"), resource_id)?,
        source,
        application,
    }))
}

/// The file of a projected token is not read here: its content changes every hour, and would be a new configuration each
/// time.
fn source_of(
    folder: &Folder,
    field: &str,
    source: file::IdentitySource,
    client_id: Option<&AzureId>,
) -> Result<IdentitySource, ConfigError> {
    match source {
        file::IdentitySource::Imds => Ok(IdentitySource::Imds),
        file::IdentitySource::ProjectedToken(file::ProjectedToken { file }) => {
            if file.as_os_str().is_empty() {
                return Err(content(
                    format!("{field}.source.projectedToken.file"),
                    "must name the file of the broker's own ServiceAccount token",
                ));
            }
            let client = client_id.cloned().ok_or_else(|| {
                content(
                    format!("{field}.clientId"),
                    "set it: Entra ID exchanges a projected token for an identity by its client id",
                )
            })?;
            Ok(IdentitySource::ProjectedToken {
                file: folder.resolve(file),
                client,
            })
        }
    }
}

fn application_of(
    field: &str,
    application: file::Application,
    source: &IdentitySource,
    cloud: &Cloud,
) -> Result<Application, ConfigError> {
    let file::Application { tenant, client_id } = application;
    match source {
        IdentitySource::Imds => {}
        // Entra refuses what was itself obtained through a federated credential (AADSTS700231).
        IdentitySource::ProjectedToken { .. } => {
            return Err(content(
                format!("{field}.application"),
                "goes with source imds only: Entra ID takes no token that a projected token was exchanged for; give the \
                 application itself a federated credential for the projected token, and declare its client id and tenant \
                 as an identity",
            ));
        }
    }
    let audience = cloud.federation_audience.clone().ok_or_else(|| {
        content(
            format!("{field}.application"),
            format!(
                "set federationAudience of cloud {}: it has none built in",
                cloud.name
            ),
        )
    })?;
    Ok(Application {
        tenant: one(&format!("{field}.application.tenant"), &tenant)?,
        client: one(&format!("{field}.application.clientId"), &client_id)?,
        audience,
    })
}

/// A request names an identity by client or resource id: it must mean one.
pub(super) fn distinct(identities: &[Arc<Identity>]) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for identity in identities {
        let ids = [
            identity.client_id.as_ref().map(ToString::to_string),
            identity.resource_id.as_ref().map(ToString::to_string),
        ];
        for id in ids.into_iter().flatten() {
            if !seen.insert(id.clone()) {
                return Err(content("identities", format!("{id} is declared twice")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
