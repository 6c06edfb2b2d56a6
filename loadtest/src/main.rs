//! The benchmarks: the broker's hits beside a bare echo, and bindings becoming ready beside a bare Kubernetes client.
//!
//! Both parts of a ratio are measured in the same run on the same machine, because nothing else about a measurement on
//! a shared machine can be compared. This file parses, supervises and ends; what is measured is in [`hits`] and
//! [`bindings`].

mod api_calls;
mod args;
mod azure_calls;
mod bare_client;
mod bindings;
mod echo;
mod hits;
mod load;
mod observer;
mod process;
mod questions;
mod report;
mod scene;
mod target;
mod timeline;
mod tokens;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use e2e::Stack;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Bench, Command, LoadtestArgs};
use crate::report::Report;

/// The longest that all of it may take, builds aside. A run of everything takes about a quarter of this.
const TIME_LIMIT: Duration = Duration::from_secs(20 * 60);

fn main() -> ExitCode {
    runtime::tls::install_crypto_provider();
    let args = match runtime::failure::parse_args::<LoadtestArgs>("loadtest") {
        Ok(args) => args,
        Err(exit_code) => return exit_code,
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            drop(writeln!(std::io::stderr(), "loadtest: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: LoadtestArgs) -> anyhow::Result<()> {
    match args.command.unwrap_or(Command::All) {
        Command::Echo(echo) => echo::serve(&echo).await,
        Command::All => supervised(&args.bench, true, true).await,
        Command::Hits => supervised(&args.bench, true, false).await,
        Command::Bindings => supervised(&args.bench, false, true).await,
    }
}

/// Runs the benchmarks for as long as everything that they need is alive and nobody interrupts.
async fn supervised(bench: &Bench, hits: bool, bindings: bool) -> anyhow::Result<()> {
    // Listened for from the start: an interrupt while the parts start must end them in order as well.
    let mut interrupted = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let mut terminated = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    tokio::select! {
        result = tokio::time::timeout(TIME_LIMIT, measure(bench, hits, bindings)) => {
            result.with_context(|| format!("the benchmarks did not end within {TIME_LIMIT:?}"))?
        }
        _ = interrupted.recv() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

async fn measure(bench: &Bench, hits: bool, bindings: bool) -> anyhow::Result<()> {
    report::progress("starting control plane, simulated Azure, broker and syncer");
    let stack = Stack::start(scene::options()).await?;
    let measured = async {
        let mut report = Report::default();
        if hits {
            report.add(hits::measure(&stack, Duration::from_secs(bench.seconds)).await?)?;
        }
        if bindings {
            report.add(bindings::measure(&stack, &bench.bindings).await?)?;
        }
        report.write(&bench.out)
    };
    let result = tokio::select! {
        result = measured => result,
        error = stack.failed() => Err(error),
    };
    if result.is_err() {
        stack.plane().keep_logs();
    }
    stack.stop().await;
    result
}
