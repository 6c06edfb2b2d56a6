//! `controlplane`: shows or builds the tools, or runs a control plane to play with.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use controlplane::{ControlPlane, ControlPlaneOptions, DEFAULT_ISSUER, Source, Tools};
use tokio::signal::unix::{SignalKind, signal};

/// The exit code for a bad command line (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// A real Kubernetes control plane for tests, found or built once and started in seconds.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print where each tool is; build what is missing.
    Tools,
    /// Start a control plane, print how to use it, and stop it on Ctrl-C.
    Up {
        /// The issuer of its `ServiceAccount` tokens.
        #[arg(long, default_value = DEFAULT_ISSUER)]
        issuer: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            drop(error.print());
            return if error.use_stderr() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let result = match arguments.command {
        Command::Tools => tools().await,
        Command::Up { issuer } => up(issuer).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "controlplane: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn tools() -> anyhow::Result<()> {
    let tools = Tools::resolve().await?;
    let mut out = std::io::stdout().lock();
    for resolved in tools.iter() {
        let source = match resolved.source {
            Source::Assets => "KUBEBUILDER_ASSETS",
            Source::Cache => "cache",
            Source::Path => "PATH",
            Source::Built => "built now",
        };
        let (name, version) = (resolved.tool.name(), resolved.version.to_string());
        writeln!(
            out,
            "{name:<24} {version:<9} {source:<19} {}",
            resolved.path.display()
        )
        .context("failed to write to standard output")?;
    }
    Ok(())
}

async fn up(issuer: String) -> anyhow::Result<()> {
    // Listened for from the start: an interrupt while the plane starts must end it in order as well.
    let mut interrupted = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let mut terminated = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let options = ControlPlaneOptions {
        name: "up".to_owned(),
        issuer,
        always_own: false,
    };
    let plane = tokio::select! {
        plane = ControlPlane::start(options) => plane?,
        _ = interrupted.recv() => return Ok(()),
        _ = terminated.recv() => return Ok(()),
    };
    let kubectl = plane.tools().path(controlplane::Tool::Kubectl).display();
    writeln!(
        std::io::stdout(),
        "export KUBECONFIG={}\n# API server: {}\n# issuer: {}\n# kubectl: {kubectl}\n# logs: {}\n# Ctrl-C stops it.",
        plane.kubeconfig_path().display(),
        plane.api_server_url(),
        plane.issuer(),
        plane.logs_dir().display(),
    )
    .context("failed to write to standard output")?;
    let failure = tokio::select! {
        error = plane.failed() => Some(error),
        _ = interrupted.recv() => None,
        _ = terminated.recv() => None,
    };
    plane.stop().await;
    failure.map_or(Ok(()), Err)
}
