//! The binary: command line in, exit code out.

use std::process::ExitCode;

use runtime::{Failure, core_dumps, failure, tls};
use syncer::args::SyncerArgs;

const PROGRAM: &str = "syncer";

fn main() -> ExitCode {
    // First of all: whatever comes after it may read a secret.
    if let Err(failure) = core_dumps::forbid() {
        return failure::exit_code(PROGRAM, Err(failure));
    }
    let args = match failure::parse_args::<SyncerArgs>(PROGRAM) {
        Ok(args) => args,
        Err(code) => return code,
    };
    tls::install_crypto_provider();
    run(args).unwrap_or_else(|failure| failure::exit_code(PROGRAM, Err(failure)))
}

fn run(args: SyncerArgs) -> Result<ExitCode, Failure> {
    tokio::runtime::Runtime::new()
        .map_err(|error| Failure::runtime("cannot start the async runtime").source(error))
        .and_then(|runtime| runtime.block_on(syncer::run(args)))
}
