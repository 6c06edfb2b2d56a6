//! The simulator as a program: a state file in, one line with addresses out, then it runs until it is told to
//! stop.

use std::{io::Write, path::Path, process::ExitCode};

use anyhow::Context;
use azure_simulator::{Addresses, Handle, Simulator, State};
use clap::Parser;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

mod args;

use args::Args;

/// A bad command line or bad content of a file that it names.
const BAD_INPUT: u8 = 64;

/// The line that says that everything is ready.
#[derive(Serialize)]
struct Ready<'a> {
    #[serde(flatten)]
    addresses: Addresses,
    ca_file: Option<&'a Path>,
    jwks_file: Option<&'a Path>,
    pid: u32,
}

/// How it failed, which is its exit code.
enum Failure {
    BadInput(anyhow::Error),
    Other(anyhow::Error),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let code = if error.use_stderr() {
                ExitCode::from(BAD_INPUT)
            } else {
                ExitCode::SUCCESS
            };
            // A screen that cannot be written to leaves nobody to tell.
            drop(error.print());
            return code;
        }
    };
    let (code, error) = match run(args).await {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::BadInput(error)) => (ExitCode::from(BAD_INPUT), error),
        Err(Failure::Other(error)) => (ExitCode::FAILURE, error),
    };
    drop(writeln!(std::io::stderr(), "azure-simulator: {error:#}"));
    code
}

async fn run(args: Args) -> Result<(), Failure> {
    let Args {
        state,
        entra_address,
        acr_address,
        imds_address,
        proxy_address,
        admin_address,
        ca_file,
        jwks_file,
        ready_file,
        seed,
        log_level,
    } = args;
    let filter = EnvFilter::try_new(&log_level)
        .with_context(|| format!("--log-level {log_level:?} is no filter"))
        .map_err(Failure::BadInput)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let state = state
        .as_deref()
        .map_or_else(|| Ok(State::default()), load_state)?;
    let addresses = Addresses {
        entra: entra_address,
        acr: acr_address,
        imds: imds_address,
        proxy: proxy_address,
        admin: admin_address,
    };
    // Before the ready line: whoever reads it may tell us to stop at once.
    let mut terminated = signal(SignalKind::terminate())
        .context("no SIGTERM")
        .map_err(Failure::Other)?;
    let mut interrupted = signal(SignalKind::interrupt())
        .context("no SIGINT")
        .map_err(Failure::Other)?;
    let builder = Simulator::builder().state(state).seed(seed).addresses(addresses);
    let mut handle = builder.start().await.map_err(Failure::Other)?;
    announce(
        &handle,
        ca_file.as_deref(),
        jwks_file.as_deref(),
        ready_file.as_deref(),
    )
    .map_err(Failure::Other)?;
    tokio::select! {
        _told = terminated.recv() => Ok(()),
        _told = interrupted.recv() => Ok(()),
        reason = handle.failure() => Err(Failure::Other(anyhow::Error::msg(reason))),
    }
}

fn load_state(path: &Path) -> Result<State, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read state file {shown}"))
        .map_err(Failure::Other)?;
    let state: State = serde_json::from_str(&text)
        .with_context(|| format!("state file {shown} is not a state"))
        .map_err(Failure::BadInput)?;
    state
        .check()
        .with_context(|| format!("state file {shown} contradicts itself"))
        .map_err(Failure::BadInput)?;
    Ok(state)
}

/// Writes the files that were asked for, and the ready line last.
fn announce(
    handle: &Handle,
    ca_file: Option<&Path>,
    jwks_file: Option<&Path>,
    ready_file: Option<&Path>,
) -> anyhow::Result<()> {
    if let Some(path) = ca_file {
        write_file(path, handle.ca_pem())?;
    }
    if let Some(path) = jwks_file {
        write_file(path, &handle.jwks_json())?;
    }
    let ready = Ready {
        addresses: handle.addresses(),
        ca_file,
        jwks_file,
        pid: std::process::id(),
    };
    let line = format!("{}\n", serde_json::to_string(&ready)?);
    match ready_file {
        // Renamed into place, so that a reader never sees half of it.
        Some(path) => {
            let draft = path.with_extension("draft");
            write_file(&draft, &line)?;
            std::fs::rename(&draft, path).with_context(|| format!("failed to write {}", path.display()))
        }
        None => std::io::stdout()
            .write_all(line.as_bytes())
            .context("failed to write the ready line"),
    }
}

fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}
