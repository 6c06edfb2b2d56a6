//! What the syncer works on, and what it may do for it: flags of the peer, and of those who must do with fewer rights.

use clap::{Args, ValueEnum};

use super::label_selector::LabelSelector;
use crate::{allowed_servers::AllowedServers, namespaces::Namespace};

/// What to work on.
#[derive(Debug, Args)]
pub struct ScopeArgs {
    /// Work only on bindings with these labels, such as team=web,stage!=test.
    #[arg(long, value_name = "SELECTOR", default_value = "", hide_default_value = true)]
    pub label_selector: LabelSelector,
    /// Work only in these namespaces, separated by commas or each with a flag of its own; Roles in them suffice then.
    #[arg(long = "namespace", value_name = "NAMESPACE", value_delimiter = ',')]
    pub namespaces: Vec<Namespace>,
    /// Refuse bindings whose registry is neither one of these domains nor under one, such as azurecr.io,azurecr.us;
    /// without it that is left to the broker.
    #[arg(long, value_name = "DOMAINS")]
    pub allowed_acr_server_suffixes: Vec<AllowedServers>,
    /// What the syncer may do with Secrets. With write-only neither get, list nor watch is used.
    #[arg(long, value_name = "ACCESS", default_value = "full")]
    pub secrets_access: SecretsAccess,
}

/// What the syncer's role allows it to do with Secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SecretsAccess {
    /// create, patch, get, list, watch.
    Full,
    /// create and patch.
    WriteOnly,
}
