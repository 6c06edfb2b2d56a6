//! What bindings of `v1beta1` mean when they leave something out: flags, or the peer's environment variables.

use std::str::FromStr;

use clap::Args;
use proto::types::{AzureId, RegistryHost, ResourceId};

use crate::binding::Defaults;

/// Empty means none, because the peer's own manifests set variables to nothing.
#[derive(Debug, Clone, Args)]
pub struct DefaultArgs {
    /// Registry of v1beta1 bindings that name none, such as example.azurecr.io.
    #[arg(long, value_name = "HOST", env = "ACR_SERVER", default_value = "", hide_default_value = true,
          value_parser = none_or::<RegistryHost>)]
    pub default_acr_server: String,
    /// Client ID of the identity of v1beta1 bindings that have none; it counts before any resource ID.
    #[arg(long, value_name = "ID", env = "MANAGED_IDENTITY_CLIENT_ID", default_value = "", hide_default_value = true,
          value_parser = none_or::<AzureId>)]
    pub default_managed_identity_client_id: String,
    /// Resource ID of the identity of v1beta1 bindings that have neither.
    #[arg(long, value_name = "ID", env = "MANAGED_IDENTITY_RESOURCE_ID", default_value = "", hide_default_value = true,
          value_parser = none_or::<ResourceId>)]
    pub default_managed_identity_resource_id: String,
}

/// The text as it is, if it would be a `T`: the peer's hash covers what was written.
fn none_or<T: FromStr>(text: &str) -> Result<String, T::Err> {
    if !text.is_empty() {
        text.parse::<T>()?;
    }
    Ok(text.to_owned())
}

impl From<DefaultArgs> for Defaults {
    fn from(args: DefaultArgs) -> Self {
        let DefaultArgs {
            default_acr_server,
            default_managed_identity_client_id,
            default_managed_identity_resource_id,
        } = args;
        Self {
            acr_server: default_acr_server,
            managed_identity_client_id: default_managed_identity_client_id,
            managed_identity_resource_id: default_managed_identity_resource_id,
        }
    }
}
