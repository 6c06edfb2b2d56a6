//! The command line. The only reader of it.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use runtime::telemetry::TelemetryArgs;

/// Turns identities into Azure Container Registry credentials and hands them out.
#[derive(Debug, Parser)]
#[command(
    name = "broker",
    version,
    propagate_version = true,
    after_help = "Exit codes: 64 for a bad command line or configuration, 1 for any other failure."
)]
pub struct BrokerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves until it is told to stop.
    Run(RunArgs),
    /// Checks a configuration file and says what is wrong with it.
    CheckConfig(ConfigArgs),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Configuration file (YAML); relative paths in it are relative to its own folder.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// How to serve.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Address for gRPC and HTTP JSON, TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    pub listen_address: SocketAddr,
    /// Address for /livez, /readyz and /metrics, plain HTTP.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090")]
    pub admin_address: SocketAddr,
    /// Certificate chain of the main listener (PEM); reloaded when it changes.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: PathBuf,
    /// Key of that certificate (PEM).
    #[arg(long, value_name = "FILE")]
    pub tls_key_file: PathBuf,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn args_are_consistent() {
        BrokerArgs::command().debug_assert();
    }
}
