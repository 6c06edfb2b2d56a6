//! Starts everything, shows it, and ends it, whoever asks for the end: the story, a signal, or a part that died.

mod args;
mod env_file;
mod folder;
mod keep;
mod processes;
mod scene;
mod screen;
mod token;
mod tree;
mod walk;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use e2e::Stack;
use tokio::signal::unix::{Signal, SignalKind, signal};

use args::Args;
use folder::Folder;
use scene::Scene;
use screen::Screen;

/// The exit code for a bad command line (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Shells give a program that a signal ended this code plus the signal's number.
const EXIT_SIGNAL: u8 = 128;

/// What dies takes others with it: an error that one of them causes comes a moment before the death is noticed.
const BLAME: Duration = Duration::from_millis(500);

/// How it ended.
enum Ending {
    /// Everything was shown; whether all of it was so.
    Shown { all_passed: bool },
    /// Somebody asked for the end.
    Told(SignalKind),
}

/// What asks for the end from outside.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A screen that cannot be written to leaves nobody to tell.
            drop(error.print());
            return if error.use_stderr() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match Box::pin(run(args)).await {
        Ok(Ending::Shown { all_passed: true }) => ExitCode::SUCCESS,
        Ok(Ending::Shown { all_passed: false }) => {
            say("not everything that was shown is so: see the lines with ✗");
            ExitCode::FAILURE
        }
        Ok(Ending::Told(kind)) => {
            let is_interrupt = kind == SignalKind::interrupt();
            say(if is_interrupt {
                "stopped by Ctrl-C"
            } else {
                "stopped by SIGTERM"
            });
            ExitCode::from(EXIT_SIGNAL.saturating_add(u8::try_from(kind.as_raw_value()).unwrap_or_default()))
        }
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<Ending> {
    // Listened for from the start, so that an early end is an orderly one as well.
    let mut signals = Signals::listen()?;
    let folder = Folder::create(args.out)?;
    let mut screen = Screen::new();
    screen.title();
    let started = screen.waiting("starting the parts", Box::pin(start()));
    let (stack, scene) = tokio::select! {
        kind = signals.next() => return Ok(Ending::Told(kind)),
        started = started => started?,
    };
    let result = tokio::select! {
        kind = signals.next() => Ok(Ending::Told(kind)),
        error = stack.failed() => Err(error),
        result = Box::pin(show(args.keep, &stack, &scene, &folder, &mut screen)) => match result {
            Ok(ending) => Ok(ending),
            Err(error) => Err(cause(&stack, error).await),
        },
    };
    drop(folder.remove_env_file());
    match &result {
        Ok(_ending) => {
            screen.note("stopping");
            tokio::select! {
                () = Box::pin(stack.stop()) => {}
                // Told twice: what still runs is killed.
                _kind = signals.next() => {}
            }
        }
        Err(_error) => stack.plane().keep_logs(),
    }
    result
}

async fn start() -> anyhow::Result<(Stack, Scene)> {
    let stack = Stack::start(scene::options()).await?;
    let scene = Scene::set(&stack).await?;
    Ok((stack, scene))
}

async fn show(
    keep: bool,
    stack: &Stack,
    scene: &Scene,
    folder: &Folder,
    screen: &mut Screen,
) -> anyhow::Result<Ending> {
    folder.write(folder::AZURE_CA_FILE, stack.azure().ca_pem())?;
    if keep {
        folder.write_env_file(&env_file::exports(stack, folder).await?)?;
    }
    walk::Walk {
        stack,
        scene,
        folder,
        screen,
    }
    .all()
    .await?;
    let all_passed = screen.summary();
    if keep && all_passed {
        keep::say_how(stack, folder, screen)?;
        // Ended by a signal, or by a part that dies.
        std::future::pending::<()>().await;
    }
    Ok(Ending::Shown { all_passed })
}

/// The death behind an error, if there was one.
async fn cause(stack: &Stack, error: anyhow::Error) -> anyhow::Error {
    match tokio::time::timeout(BLAME, stack.failed()).await {
        Ok(death) => death,
        Err(_elapsed) => error,
    }
}

fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "demo: {line}"));
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?,
        })
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }
}
