//! The benchmarks: each measures the real broker, or broker and syncer, beside a baseline.
//!
//! Both parts of a ratio are measured in the same run on the same machine, because nothing else about a measurement on
//! a shared machine can be compared. This file parses, supervises and ends; what is measured is in the file that has
//! the benchmark's name: [`hits`], [`open`], [`stall`], [`isolation`], [`herd`], [`bindings`] and [`fleet`].

mod api_calls;
mod args;
mod azure_calls;
mod bare_client;
mod bindings;
mod echo;
mod fleet;
mod herd;
mod hits;
mod isolation;
mod latencies;
mod load;
mod observer;
mod open;
mod open_loop;
mod process;
mod questions;
mod refusal;
mod report;
mod rounds;
mod scene;
mod stall;
mod starts;
mod syncer_counts;
mod target;
mod timeline;
mod tokens;
mod workload;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use e2e::Stack;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Bench, Benchmark, Command, LoadtestArgs};
use crate::report::{Part, Report};

/// The longest that all of it may take, builds aside. A run of everything takes about half of this.
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
    let command = args.command.unwrap_or(Command::All);
    if let Command::Echo(echo) = &command {
        return echo::serve(echo).await;
    }
    supervised(&args.bench, &command.benchmarks()).await
}

/// Runs the benchmarks for as long as everything that they need is alive and nobody interrupts.
async fn supervised(bench: &Bench, benchmarks: &[Benchmark]) -> anyhow::Result<()> {
    // Listened for from the start: an interrupt while the parts start must end them in order as well.
    let mut interrupted = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let mut terminated = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    tokio::select! {
        result = tokio::time::timeout(TIME_LIMIT, measure_all(bench, benchmarks)) => {
            result.with_context(|| format!("the benchmarks did not end within {TIME_LIMIT:?}"))?
        }
        _ = interrupted.recv() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

async fn measure_all(bench: &Bench, benchmarks: &[Benchmark]) -> anyhow::Result<()> {
    report::progress("starting control plane, simulated Azure, broker and syncer");
    let stack = Stack::start(scene::options()).await?;
    let measured = async {
        let mut report = Report::default();
        for &benchmark in benchmarks {
            report.add(measure(&stack, bench, benchmark).await?)?;
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

async fn measure(stack: &Stack, bench: &Bench, benchmark: Benchmark) -> anyhow::Result<Part> {
    match benchmark {
        Benchmark::Hits => hits::measure(stack, Duration::from_secs(bench.seconds)).await,
        Benchmark::Open => open::measure(stack).await,
        Benchmark::Stall => stall::measure(stack).await,
        Benchmark::Isolation => isolation::measure(stack).await,
        Benchmark::Herd => herd::measure(stack).await,
        Benchmark::Bindings => bindings::measure(stack, &bench.bindings).await,
        Benchmark::Fleet(count) => fleet::measure(stack, usize::try_from(count)?).await,
    }
}
