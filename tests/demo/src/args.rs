//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// The whole path on this machine, from an `AcrPullBinding` to a pulled image, shown step by step.
///
/// Everything is real but Azure: a control plane, the charts, broker, syncer and a registry, with a simulated Azure
/// beside them. It takes a minute and a half, leaves nothing behind, and succeeds only if all that it shows is so.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Leave everything running afterwards, until Ctrl-C, and say how to use it
    #[arg(long)]
    pub(crate) keep: bool,
    /// Folder for the manifests and, with --keep, the file `env` [default: demo, beside the build's own folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
