//! The command line. The only place that reads it; everything else gets typed values.

mod defaults;
mod preflight;

use std::{net::SocketAddr, num::NonZeroU16, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use runtime::{build_info::VERSION, telemetry::TelemetryArgs};

pub use defaults::DefaultArgs;
pub use preflight::{AccountReading, OutputFormat, PreflightArgs};

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
    /// Work only on bindings with these labels, such as team=web,stage!=test.
    #[arg(long, value_name = "SELECTOR")]
    pub label_selector: Option<String>,
    /// What bindings of the older API leave out.
    #[command(flatten)]
    pub defaults: DefaultArgs,
    /// Bindings that are worked on at a time; waiting for the broker does not count.
    #[arg(long, value_name = "COUNT", default_value = "16")]
    pub workers: NonZeroU16,
    /// Address for /livez, /readyz and /metrics (plain HTTP).
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    pub admin_address: SocketAddr,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::binding::Defaults;

    #[test]
    fn args_are_consistent() {
        SyncerArgs::command().debug_assert();
    }

    #[test]
    fn args_defaults_are_those_of_the_peer_where_it_has_them() {
        let parsed = SyncerArgs::try_parse_from([
            "syncer",
            "run",
            "--broker-address",
            "https://broker:8443",
            "--broker-token-file",
            "/token",
        ]);
        let Command::Run(run) = parsed.unwrap().command else {
            panic!("not run")
        };
        assert_eq!(run.service_account_token_audience, "api://AzureCRTokenExchange");
        assert_eq!(run.workers.get(), 16);
        assert_eq!(run.label_selector, None);
        assert_eq!(Defaults::from(run.defaults), Defaults::default());
    }

    #[test]
    fn args_defaults_of_the_older_api_are_taken_as_they_are_written() {
        let parsed = SyncerArgs::try_parse_from([
            "syncer",
            "run",
            "--broker-address",
            "https://broker:8443",
            "--broker-token-file",
            "/token",
            "--default-acr-server",
            "Example.azurecr.io",
            "--default-managed-identity-client-id",
            "",
        ]);
        let Command::Run(run) = parsed.unwrap().command else {
            panic!("not run")
        };
        let defaults = Defaults {
            acr_server: "Example.azurecr.io".to_owned(),
            ..Defaults::default()
        };
        assert_eq!(Defaults::from(run.defaults), defaults);
    }

    #[test]
    fn args_that_cannot_work_are_refused() {
        let base = [
            "syncer",
            "run",
            "--broker-address",
            "https://b",
            "--broker-token-file",
            "/t",
        ];
        for bad in [
            ["--workers", "0"],
            ["--admin-address", "nowhere"],
            ["--service-account-token-audience", ""],
            ["--broker-client-cert-file", "/c"],
            ["--broker-client-key-file", "/k"],
            ["--default-acr-server", "https://example.azurecr.io"],
            ["--default-managed-identity-client-id", "puller"],
            ["--default-managed-identity-resource-id", "/subscriptions/x"],
        ] {
            assert!(
                SyncerArgs::try_parse_from(base.iter().chain(&bad)).is_err(),
                "{bad:?}"
            );
        }
    }
}
