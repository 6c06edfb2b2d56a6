//! The command line. The only place that reads it; everything else gets typed values.

mod account_ref;
mod defaults;
mod label_selector;
mod leadership;
mod listeners;
mod peer;
mod preflight;
mod scope;

use std::{num::NonZeroU16, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use runtime::{build_info::VERSION, telemetry::TelemetryArgs};

pub use account_ref::ServiceAccountRef;
pub use defaults::DefaultArgs;
pub use label_selector::{LabelSelector, LabelSelectorError};
pub use leadership::LeadershipArgs;
pub use listeners::{BindAddress, BindAddressError, Listener, ListenerArgs, Serves};
pub use peer::{PeerArgs, RotationFraction, RotationFractionError};
pub use preflight::{OutputFormat, PreflightArgs};
pub use scope::{ScopeArgs, SecretsAccess};

/// Keeps pull Secrets and ServiceAccounts in step with AcrPullBinding objects.
///
/// For every binding the syncer asks the broker for a token of an Azure Container Registry, keeps it in a pull Secret,
/// and lists that Secret in a ServiceAccount. It reaches Kubernetes through $KUBECONFIG or, in a Pod, through the
/// Pod's own ServiceAccount. Traces are exported when the standard OTEL_* variables say where to.
#[derive(Debug, Parser)]
#[command(name = "syncer", version = VERSION)]
pub struct SyncerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run until told to stop.
    Run(Box<RunArgs>),
    /// Print the CRDs as YAML, for kubectl apply.
    Crd,
    /// Look at a cluster, and say what is in the way of an installation or a hand-over. Writes nothing.
    #[command(
        after_help = "Exit codes: 0 nothing is in the way, 1 something is, 64 for a bad command line, 69 if the cluster \
                      could not be read."
    )]
    Preflight(Box<PreflightArgs>),
}

/// How to run.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Address of the broker.
    #[arg(
        long,
        value_name = "URL",
        env = "ACRPULL_BROKER_ADDRESS",
        help = "Address of the broker, such as https://acrpull-broker.acrpull-system.svc:8443"
    )]
    pub broker_address: String,
    /// Certificates (PEM) that the broker's must chain to, read again for each connection. Without it, those of the
    /// system.
    #[arg(long, value_name = "FILE", env = "ACRPULL_BROKER_CA_FILE")]
    pub broker_ca_file: Option<PathBuf>,
    /// Certificate chain (PEM) by which this process proves itself to the broker, read again for each connection. Needs
    /// --broker-client-key-file.
    #[arg(
        long,
        value_name = "FILE",
        env = "ACRPULL_BROKER_CLIENT_CERT_FILE",
        requires = "broker_client_key_file"
    )]
    pub broker_client_cert_file: Option<PathBuf>,
    /// Key (PEM) of that certificate. Needs --broker-client-cert-file.
    #[arg(
        long,
        value_name = "FILE",
        env = "ACRPULL_BROKER_CLIENT_KEY_FILE",
        requires = "broker_client_cert_file"
    )]
    pub broker_client_key_file: Option<PathBuf>,
    /// This process's own ServiceAccount token for the broker; read again as it is renewed.
    #[arg(long, value_name = "FILE", env = "ACRPULL_BROKER_TOKEN_FILE")]
    pub broker_token_file: PathBuf,
    /// Audience of the tokens that are requested for workload identities.
    #[arg(long, value_name = "AUDIENCE", default_value = "api://AzureCRTokenExchange",
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub service_account_token_audience: String,
    /// What to work on.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Whether serviceAccountRef names the ServiceAccount whose identity is used, or spec.serviceAccountName does, as with
    /// Azure/msi-acrpull.
    #[arg(long, value_name = "READING", value_enum, default_value_t)]
    pub service_account_ref: ServiceAccountRef,
    /// What bindings of the older API leave out.
    #[command(flatten)]
    pub defaults: DefaultArgs,
    /// Of several replicas one works.
    #[command(flatten)]
    pub leadership: LeadershipArgs,
    /// Bindings that are worked on at a time; waiting for the broker does not count.
    #[arg(long, value_name = "COUNT", default_value = "16")]
    pub workers: NonZeroU16,
    /// Probes and metrics.
    #[command(flatten)]
    pub listeners: ListenerArgs,
    /// Flags of the peer that change nothing.
    #[command(flatten)]
    pub peer: PeerArgs,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::{allowed_servers::AllowedServers, binding::Defaults, namespaces::Namespaces};

    /// What every command line must have.
    const NEEDED: [&str; 6] = [
        "syncer",
        "run",
        "--broker-address",
        "https://broker:8443",
        "--broker-token-file",
        "/token",
    ];

    fn parse(args: &[&str]) -> Result<RunArgs, clap::Error> {
        match SyncerArgs::try_parse_from(NEEDED.iter().chain(args))?.command {
            Command::Run(run) => Ok(*run),
            Command::Crd | Command::Preflight(_) => panic!("not run"),
        }
    }

    #[test]
    fn args_are_consistent() {
        SyncerArgs::command().debug_assert();
    }

    #[test]
    fn args_defaults_are_those_of_the_peer_where_it_has_them() {
        let run = parse(&[]).unwrap();
        assert_eq!(run.service_account_token_audience, "api://AzureCRTokenExchange");
        assert_eq!(run.workers.get(), 16);
        assert_eq!(run.scope.label_selector.as_query(), None);
        assert!(run.scope.namespaces.is_empty());
        assert!(run.scope.allowed_acr_server_suffixes.is_empty());
        assert_eq!(run.scope.secrets_access, SecretsAccess::Full);
        assert_eq!(Defaults::from(run.defaults), Defaults::default());
    }

    #[test]
    fn args_of_the_peer_are_accepted_as_its_deployment_writes_them() {
        let run = parse(&[
            "--metrics-bind-address=127.0.0.1:8080",
            "--health-probe-bind-address=:8081",
            "--service-account-token-audience=api://AzureCRTokenExchange",
            "--ttl-rotation-fraction",
            "0.5",
            "--label-selector=",
            "--allowed-acr-server-suffixes=azurecr.io,azurecr.cn",
            "--allowed-acr-server-suffixes=azurecr.us",
        ])
        .unwrap();
        assert_eq!(run.listeners.listeners().unwrap().len(), 2);
        assert_eq!(run.scope.label_selector.as_query(), None);
        let allowed: AllowedServers = run.scope.allowed_acr_server_suffixes.into_iter().collect();
        assert_eq!(allowed, "azurecr.io,azurecr.cn,azurecr.us".parse().unwrap());
    }

    #[test]
    fn args_namespaces_are_a_list_or_several_flags() {
        let run = parse(&["--namespace", "shop,web", "--namespace=pay"]).unwrap();
        assert_eq!(run.scope.namespaces.len(), 3);
        let namespaces: Namespaces = run.scope.namespaces.into_iter().collect();
        assert_eq!(namespaces.names().collect::<Vec<_>>(), ["pay", "shop", "web"]);
    }

    #[test]
    fn args_defaults_of_the_older_api_are_taken_as_they_are_written() {
        let run = parse(&[
            "--default-acr-server",
            "Example.azurecr.io",
            "--default-managed-identity-client-id",
            "",
        ])
        .unwrap();
        let defaults = Defaults {
            acr_server: "Example.azurecr.io".to_owned(),
            ..Defaults::default()
        };
        assert_eq!(Defaults::from(run.defaults), defaults);
    }

    #[test]
    fn args_that_cannot_work_are_refused() {
        for bad in [
            ["--workers", "0"],
            ["--admin-address", "nowhere"],
            ["--service-account-token-audience", ""],
            ["--broker-client-cert-file", "/c"],
            ["--broker-client-key-file", "/k"],
            ["--service-account-ref", "maybe"],
            ["--default-acr-server", "https://example.azurecr.io"],
            ["--default-managed-identity-client-id", "puller"],
            ["--default-managed-identity-resource-id", "/subscriptions/x"],
            ["--label-selector", "team in web"],
            ["--namespace", "Shop"],
            ["--namespace", "shop,"],
            ["--allowed-acr-server-suffixes", "io"],
            ["--secrets-access", "read-only"],
            ["--metrics-bind-address", "metrics"],
            ["--health-probe-bind-address", ""],
            // What the peer does not have either, and its command line's other way to write one.
            ["--enable-leader-election", "true"],
            ["-label-selector", "team=web"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn b22_rotation_fraction_that_would_never_or_always_renew_is_refused_with_its_name() {
        for bad in ["0", "1", "-0.5", "NaN"] {
            let mistake = parse(&[&format!("--ttl-rotation-fraction={bad}")]).unwrap_err();
            let mistake = mistake.to_string();
            assert!(
                mistake.contains("--ttl-rotation-fraction") && mistake.contains("between 0 and 1"),
                "{mistake}"
            );
        }
    }
}
