//! `broker grants`: what is asked, on the command line. Checks its form only; what it means is for the server's own code
//! to say.

use clap::{Args, Subcommand, ValueEnum};

use super::ConfigArgs;

/// What to do with the grants.
#[derive(Debug, Subcommand)]
pub enum GrantsCommand {
    /// Says whether a request would be allowed, and if not, what is in the way. Asks nobody.
    #[command(after_help = "Exit codes: 0 allowed, 1 denied, 64 for a bad command line or configuration.")]
    Test(GrantsTestArgs),
}

/// A request, and the configuration that decides on it.
#[derive(Debug, Args)]
pub struct GrantsTestArgs {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Name of the cluster that asks, as in the configuration.
    #[arg(long, value_name = "NAME")]
    pub cluster: String,
    /// Namespace of the binding.
    #[arg(long, value_name = "NAME")]
    pub namespace: String,
    /// A ServiceAccount of the request; repeat it for more. The first one is whose token a federated request shows.
    #[arg(long = "service-account", value_name = "NAME", required = true)]
    pub service_accounts: Vec<String>,
    /// Host of the registry.
    #[arg(long, value_name = "HOST")]
    pub registry: String,
    /// What the token is for, such as repository:team/app:pull; repeat it for more. None: all that the identity may do.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// Whose rights.
    #[command(flatten)]
    pub who: Who,
    /// Tenant of the federated identity; the default of the cluster if it is not given.
    #[arg(long, value_name = "TENANT", requires = "federated_client_id", conflicts_with_all = ["identity", "client_id", "resource_id"])]
    pub federated_tenant: Option<String>,
    /// Name of the cloud. If it is not given: that of --identity, else the public cloud.
    #[arg(long, value_name = "NAME")]
    pub cloud: Option<String>,
    /// Entra authority of an airgapped binding; with --cloud.
    #[arg(long, value_name = "URL", requires = "cloud")]
    pub authority_host: Option<String>,
    /// Form of the answer.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
}

/// Whose rights are asked for.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Who {
    /// A declared identity, by its name in the configuration.
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// A declared identity, by its client ID.
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// A declared identity, by its resource ID.
    #[arg(long, value_name = "ID")]
    pub resource_id: Option<String>,
    /// A federated identity, by its client ID.
    #[arg(long, value_name = "ID")]
    pub federated_client_id: Option<String>,
}

/// How to print an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
}
