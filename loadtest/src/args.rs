//! The command line. The only place that reads it; everything else gets typed values.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Benchmarks of broker and syncer on real parts, each beside a baseline in the same run.
///
/// Absolute times say more about the machine than about the product: quote the ratios.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
pub(crate) struct LoadtestArgs {
    /// What to measure; everything unless given.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) bench: Bench,
}

/// How to measure.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Length of one measurement of hits in a closed loop, in seconds; each is made three times.
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) seconds: u64,
    /// How many bindings to create at once; one measurement for each number.
    #[arg(long, global = true, value_delimiter = ',', default_value = "100,1000",
          value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub(crate) bindings: Vec<u16>,
    /// Where to write the figures, one JSON object per line; replaced by every run.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "target/bench/results.jsonl"
    )]
    pub(crate) out: PathBuf,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything.
    All,
    /// Requests that the broker answers from memory, as many as it can, beside a bare echo.
    Hits,
    /// The same at a fixed rate: latencies without coordinated omission.
    Open,
    /// Requests that the broker answers from memory while an Azure that stalls keeps others waiting.
    Stall,
    /// Nine registries while the tenth throttles or is silent.
    Isolation,
    /// 10,000 keys that 100 callers ask a new broker for within a second.
    Herd,
    /// Bindings that are created at once, beside a bare Kubernetes client that makes the same writes.
    Bindings,
    /// Thousands of bindings over hundreds of namespaces, served and found again by a restarted syncer. Takes minutes, so
    /// that it is not part of everything.
    Fleet(FleetArgs),
    /// The bare echo. The other commands start it.
    #[command(hide = true)]
    Echo(EchoArgs),
}

/// One benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Benchmark {
    Hits,
    Open,
    Stall,
    Isolation,
    Herd,
    Bindings,
    Fleet(u32),
}

/// Thousands of bindings.
#[derive(Debug, Args)]
pub(crate) struct FleetArgs {
    /// How many bindings.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(20..=20_000))]
    pub(crate) count: u32,
}

/// The bare echo.
#[derive(Debug, Args)]
pub(crate) struct EchoArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen_address: SocketAddr,
    /// Certificate chain (PEM).
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert_file: PathBuf,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key_file: PathBuf,
    /// What to answer, whatever is asked: a `GetDockerConfigResponse` as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) answer_file: PathBuf,
}

impl Command {
    /// The benchmarks that it names, in the order in which they are made: later ones restart the broker and stop the
    /// syncer. None for what is no benchmark.
    pub(crate) fn benchmarks(&self) -> Vec<Benchmark> {
        match self {
            Self::All => vec![
                Benchmark::Hits,
                Benchmark::Open,
                Benchmark::Stall,
                Benchmark::Isolation,
                Benchmark::Herd,
                Benchmark::Bindings,
            ],
            Self::Hits => vec![Benchmark::Hits],
            Self::Open => vec![Benchmark::Open],
            Self::Stall => vec![Benchmark::Stall],
            Self::Isolation => vec![Benchmark::Isolation],
            Self::Herd => vec![Benchmark::Herd],
            Self::Bindings => vec![Benchmark::Bindings],
            Self::Fleet(fleet) => vec![Benchmark::Fleet(fleet.count)],
            Self::Echo(_) => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn args_are_consistent() {
        LoadtestArgs::command().debug_assert();
    }

    #[test]
    fn args_without_a_command_measure_the_sizes_of_the_peers_measurement() {
        let args = LoadtestArgs::try_parse_from(["loadtest"]).unwrap();
        assert!(args.command.is_none());
        assert_eq!(args.bench.bindings, [100, 1000]);
    }

    #[test]
    fn args_options_may_follow_the_command() {
        let args = LoadtestArgs::try_parse_from(["loadtest", "bindings", "--bindings", "7,8"]).unwrap();
        assert_eq!(args.bench.bindings, [7, 8]);
    }

    #[test]
    fn args_that_measure_nothing_are_refused() {
        for bad in [["--seconds", "0"], ["--bindings", "0"], ["--bindings", ""]] {
            assert!(
                LoadtestArgs::try_parse_from(["loadtest"].iter().chain(&bad)).is_err(),
                "{bad:?}"
            );
        }
    }
}
