//! The syncer: the only code that talks to Kubernetes.
//!
//! For every `AcrPullBinding` it asks the broker for a registry token, keeps it in a pull Secret, and links the
//! Secret to a ServiceAccount. It holds no Azure credential and knows nothing of Azure's protocols.
//!
//! The path of an event, readable by opening the files in this order: [`watches`] (what changed, and whom it
//! concerns) -> [`controller`] (one pass at a time per object) -> [`reconcile`] (the shell) -> [`snapshot`] (reads)
//! -> [`plan`] (decides, pure) -> [`execute`], [`links`], [`credential`] (do) -> [`status`] (says, pure). Of several
//! replicas one does it: [`leadership`].

mod admin_listeners;
pub mod allowed_servers;
pub mod args;
pub mod binding;
pub mod contest;
pub mod context;
pub mod controller;
pub mod crd;
pub mod credential;
pub mod events;
pub mod execute;
pub mod finalizer;
pub mod guard_rails;
pub mod indexed;
pub mod inputs;
pub mod kube_calls;
mod kube_client;
pub mod leadership;
pub mod links;
pub mod memory;
pub mod metrics;
pub mod namespaces;
pub mod news;
pub mod plan;
mod preflight;
mod probe;
pub mod problem;
pub mod pull_secret;
pub mod reconcile;
#[cfg(test)]
mod samples;
pub mod schedule;
pub mod seldom;
pub mod snapshot;
mod start;
pub mod status;
pub mod steady;
pub mod turns;
pub mod unread_secret;
pub mod wanted;
pub mod watches;

use std::process::ExitCode;

use runtime::Failure;

use crate::args::{Command, SyncerArgs};

/// Does what the command line says.
///
/// # Errors
/// The process cannot go on; the failure says why and what to do.
pub async fn run(args: SyncerArgs) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Crd => print_crds()?,
        Command::Run(run) => Box::pin(start::run(*run)).await?,
        Command::Preflight(args) => return preflight::run(&args).await,
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "printing is what the command is for")]
fn print_crds() -> Result<(), Failure> {
    let manifests =
        crd::manifests().map_err(|error| Failure::runtime("cannot print the CRDs").source(error))?;
    print!("{manifests}");
    Ok(())
}
