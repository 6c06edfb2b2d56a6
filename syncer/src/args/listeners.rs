//! Where the process answers probes and scrapes: one address for both, or the peer's two flags, one each. What the
//! addresses mean together is decided here; they are bound in `admin_listeners`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use clap::Args;
use runtime::Failure;

const ADMIN: &str = "--admin-address";
const METRICS: &str = "--metrics-bind-address";
const HEALTH: &str = "--health-probe-bind-address";
/// Where the peer serves each if only the other is given.
const METRICS_PORT: u16 = 8080;
const HEALTH_PORT: u16 = 8081;

/// Addresses for probes and metrics.
#[derive(Debug, Args)]
pub struct ListenerArgs {
    /// Address for /livez, /healthz, /readyz and /metrics (plain HTTP).
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081",
          conflicts_with_all = ["metrics_bind_address", "health_probe_bind_address"])]
    pub admin_address: SocketAddr,
    /// Address for /metrics apart from the probes, such as :8080; 0 serves no metrics. Without it, where
    /// --health-probe-bind-address is given, :8080.
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_bind_address: Option<BindAddress>,
    /// Address for /livez, /healthz and /readyz apart from the metrics, such as :8081; 0 answers no probes. Without it,
    /// where --metrics-bind-address is given, :8081.
    #[arg(long, value_name = "ADDRESS")]
    pub health_probe_bind_address: Option<BindAddress>,
}

/// An address as Go programs take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindAddress {
    /// `0`: nothing is served.
    Off,
    /// Served there.
    At(SocketAddr),
}

/// Why a text is no address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be HOST:PORT with an IP address, localhost or nothing for HOST, such as :8080, or 0 for none")]
pub struct BindAddressError;

/// One listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The flag that set it.
    pub flag: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// What it answers.
    pub serves: Serves,
}

/// What a listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// Probes.
    Health,
    /// Scrapes.
    Metrics,
    /// Both.
    Both,
}

impl ListenerArgs {
    /// The listeners.
    ///
    /// # Errors
    /// The two addresses are not the same and yet overlap.
    pub fn listeners(&self) -> Result<Vec<Listener>, Failure> {
        let listener = |flag, address, serves| Listener {
            flag,
            address,
            serves,
        };
        if self.metrics_bind_address.is_none() && self.health_probe_bind_address.is_none() {
            return Ok(vec![listener(ADMIN, self.admin_address, Serves::Both)]);
        }
        let metrics = self
            .metrics_bind_address
            .unwrap_or(BindAddress::every(METRICS_PORT));
        let health = self
            .health_probe_bind_address
            .unwrap_or(BindAddress::every(HEALTH_PORT));
        match (health.socket(), metrics.socket()) {
            (Some(health), Some(metrics)) if health == metrics && health.port() != 0 => {
                Ok(vec![listener(HEALTH, health, Serves::Both)])
            }
            (Some(health), Some(metrics)) if overlap(health, metrics) => {
                let what = format!("{HEALTH} {health} and {METRICS} {metrics} overlap");
                Err(Failure::usage(what).remedy("give each a port of its own, or both the same address"))
            }
            (health, metrics) => {
                let health = health.map(|address| listener(HEALTH, address, Serves::Health));
                let metrics = metrics.map(|address| listener(METRICS, address, Serves::Metrics));
                Ok(health.into_iter().chain(metrics).collect())
            }
        }
    }
}

/// Whether one of the addresses takes in the other.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.port() != 0
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

impl BindAddress {
    const fn every(port: u16) -> Self {
        Self::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
    }

    fn socket(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for BindAddress {
    type Err = BindAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "0" {
            return Ok(Self::Off);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::At(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or(BindAddressError)?;
        let port = port.parse().map_err(|_error| BindAddressError)?;
        match host {
            "" => Ok(Self::every(port)),
            "localhost" => Ok(Self::At((Ipv4Addr::LOCALHOST, port).into())),
            _ => Err(BindAddressError),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        listeners: ListenerArgs,
    }

    /// Each as `FLAG ADDRESS`, or the mistake.
    fn listeners(args: &[&str]) -> Result<Vec<(Serves, String)>, String> {
        let parsed =
            Only::try_parse_from(["syncer"].iter().chain(args)).map_err(|error| error.to_string())?;
        let listeners = parsed
            .listeners
            .listeners()
            .map_err(|failure| failure.to_string())?;
        let described = listeners
            .iter()
            .map(|one| (one.serves, format!("{} {}", one.flag, one.address)));
        Ok(described.collect())
    }

    #[test]
    fn listeners_without_the_peers_flags_are_one_for_both() {
        let at = |address: &str| vec![(Serves::Both, format!("--admin-address {address}"))];
        assert_eq!(listeners(&[]), Ok(at("0.0.0.0:8081")));
        assert_eq!(
            listeners(&["--admin-address", "127.0.0.1:9"]),
            Ok(at("127.0.0.1:9"))
        );
    }

    #[test]
    fn listeners_of_the_peers_flags_are_where_the_peer_has_them() {
        let health = |address: &str| (Serves::Health, format!("--health-probe-bind-address {address}"));
        let metrics = |address: &str| (Serves::Metrics, format!("--metrics-bind-address {address}"));
        for (args, expected) in [
            // As the peer's chart sets them.
            (
                &[
                    "--metrics-bind-address=127.0.0.1:8080",
                    "--health-probe-bind-address=:8081",
                ][..],
                vec![health("0.0.0.0:8081"), metrics("127.0.0.1:8080")],
            ),
            (
                &["--metrics-bind-address", ":9090"],
                vec![health("0.0.0.0:8081"), metrics("0.0.0.0:9090")],
            ),
            (&["--metrics-bind-address", "0"], vec![health("0.0.0.0:8081")]),
            (
                &["--health-probe-bind-address", "localhost:9"],
                vec![health("127.0.0.1:9"), metrics("0.0.0.0:8080")],
            ),
            (
                &["--health-probe-bind-address", "0"],
                vec![metrics("0.0.0.0:8080")],
            ),
            (
                &["--metrics-bind-address=0", "--health-probe-bind-address=0"],
                vec![],
            ),
            (
                &["--metrics-bind-address=:9", "--health-probe-bind-address=:9"],
                vec![(Serves::Both, "--health-probe-bind-address 0.0.0.0:9".to_owned())],
            ),
            (
                &[
                    "--metrics-bind-address=[::1]:0",
                    "--health-probe-bind-address=[::1]:0",
                ],
                vec![health("[::1]:0"), metrics("[::1]:0")],
            ),
        ] {
            assert_eq!(listeners(args), Ok(expected), "{args:?}");
        }
    }

    #[test]
    fn listeners_that_contradict_each_other_are_refused() {
        for (args, named) in [
            (&["--metrics-bind-address=127.0.0.1:8081"][..], "overlap"),
            (
                &["--admin-address=:1", "--metrics-bind-address=:2"],
                "--admin-address",
            ),
            (
                &["--admin-address=0.0.0.0:1", "--health-probe-bind-address=:2"],
                "cannot be used with",
            ),
            (&["--metrics-bind-address=metrics.example:80"], "HOST:PORT"),
            (&["--metrics-bind-address=8080"], "HOST:PORT"),
            (&["--metrics-bind-address=:http"], "HOST:PORT"),
        ] {
            let mistake = listeners(args).unwrap_err();
            assert!(mistake.contains(named), "{args:?}: {mistake}");
        }
    }
}
