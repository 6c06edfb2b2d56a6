//! `syncer preflight`: what to look at, and how to read it, on the command line.

use clap::{Args, ValueEnum};
use proto::types::TenantId;

use super::{DefaultArgs, LabelSelector, ServiceAccountRef};
use crate::{allowed_servers::AllowedServers, namespaces::Namespace};

/// What to look at, and how.
#[derive(Debug, Args)]
pub struct PreflightArgs {
    /// Context of the kubeconfig; its current one if this is not given.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Look at this namespace only; repeat it, or separate names by commas, for more. Roles in them are then enough.
    #[arg(
        short = 'n',
        long = "namespace",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub namespaces: Vec<Namespace>,
    /// Look only at bindings with these labels, as `syncer run` will.
    #[arg(long, value_name = "SELECTOR", default_value = "", hide_default_value = true)]
    pub label_selector: LabelSelector,
    /// What bindings of the older API leave out.
    #[command(flatten)]
    pub defaults: DefaultArgs,
    /// Audience of the tokens that will be requested for workload identities.
    #[arg(long, value_name = "AUDIENCE", default_value = "api://AzureCRTokenExchange",
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub service_account_token_audience: String,
    /// What has been decided on bindings whose serviceAccountRef differs from their serviceAccountName. Until it is
    /// decided, those that Azure/msi-acrpull serves are in the way.
    #[arg(long, value_name = "READING", value_enum)]
    pub service_account_ref: Option<ServiceAccountRef>,
    /// Refuse bindings whose registry is neither one of these domains nor under one, as `syncer run` will.
    #[arg(long, value_name = "DOMAINS")]
    pub allowed_acr_server_suffixes: Vec<AllowedServers>,
    /// Name of this cluster in the broker's configuration, for the grants.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub cluster: Option<String>,
    /// Tenant of the broker's identities, and of federated ones that name none, for the grants.
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// Print grants for federated identities too: for a cluster with `grants.federated: enforce`.
    #[arg(long)]
    pub federated_grants: bool,
    /// Print only the sections `identities` and `grants` for the broker's configuration.
    #[arg(long, requires = "cluster", conflicts_with_all = ["output", "verbose"])]
    pub grants_only: bool,
    /// Form of the report.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
    /// Say of each binding what would change. JSON and YAML always do.
    #[arg(short, long)]
    pub verbose: bool,
}

/// How to print the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
    /// The same as YAML.
    Yaml,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Command, SyncerArgs};

    fn parsed(arguments: &str) -> Result<PreflightArgs, clap::Error> {
        let arguments = ["syncer", "preflight"]
            .into_iter()
            .chain(arguments.split_whitespace());
        match SyncerArgs::try_parse_from(arguments)?.command {
            Command::Preflight(args) => Ok(*args),
            Command::Run(_) | Command::Crd => panic!("not preflight"),
        }
    }

    #[test]
    fn preflight_args_take_lists_and_the_peers_spelling_of_domains() {
        let args =
            parsed("-n shop,data -n web --allowed-acr-server-suffixes=.AzureCR.io,azurecr.us").unwrap();
        let namespaces = ["shop", "data", "web"].map(|name| name.parse::<Namespace>().unwrap());
        assert_eq!(args.namespaces, namespaces);
        let allowed: AllowedServers = args.allowed_acr_server_suffixes.into_iter().collect();
        assert_eq!(allowed, "azurecr.io,azurecr.us".parse().unwrap());
        assert_eq!(args.label_selector, LabelSelector::default());
        assert_eq!(args.output, OutputFormat::Text);
        assert_eq!(args.service_account_ref, None);
    }

    #[test]
    fn preflight_args_that_cannot_work_are_refused() {
        for bad in [
            "--grants-only",
            "--grants-only --cluster c -o json",
            "--tenant common",
            "-n Shop",
            "--label-selector team=-web",
            "--allowed-acr-server-suffixes https://azurecr.io",
            "--service-account-ref name",
            "--output html",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
