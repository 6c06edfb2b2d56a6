//! The command line. The only reader of it.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

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
    /// Helps to read the audit log.
    Audit {
        /// What to find out.
        #[command(subcommand)]
        command: AuditCommand,
    },
}

/// What can be found out.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Reads a token or a .dockerconfigjson from standard input, and prints for each token in it the id of the key and the
    /// fingerprint that stands for the token in the records.
    Fingerprint(FingerprintArgs),
}

/// With which key.
#[derive(Debug, Args)]
pub struct FingerprintArgs {
    /// The file that the configuration names as audit.keyFile.
    #[arg(long, value_name = "FILE")]
    pub key_file: PathBuf,
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
    /// Folder in which the last good signing keys of clusters are kept, so that a restart does not lose them while their
    /// source is away. Whoever else can write there speaks for the clusters.
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Open connections of the main listener at most. At that many, the oldest without an admitted caller makes room for a
    /// new one.
    #[arg(long, value_name = "COUNT", default_value = "4096")]
    pub max_connections: NonZeroU32,
    /// After this long, give or take a tenth, a connection is asked to go once its requests are answered, so that callers
    /// find new replicas: a number with s, m or h.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub max_connection_age: Duration,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Whole seconds, minutes or hours: `90s`, `5m`, `1h`. Never none.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number above 0 with a unit: 90s, 5m or 1h".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds_each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let number: u32 = text
        .strip_suffix(unit)
        .and_then(|digits| digits.parse().ok())
        .filter(|number| *number > 0)
        .ok_or_else(wrong)?;
    Ok(Duration::from_secs(u64::from(number) * seconds_each))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn args_are_consistent() {
        BrokerArgs::command().debug_assert();
    }

    #[test]
    fn duration_is_a_number_and_a_unit() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("5m", 300), ("2h", 7200)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "0s",
            "5",
            "5d",
            "-5s",
            "1.5h",
            "5 m",
            "5m\u{fe0f}",
            "9999999999s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
