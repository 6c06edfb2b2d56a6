//! The `broker` binary: parse, run, report.

use std::process::ExitCode;

use broker::args::{AuditCommand, BrokerArgs, Command, GrantsCommand};
use runtime::{Failure, core_dumps, failure};

fn main() -> ExitCode {
    // First of all: whatever comes after it may read a secret.
    if let Err(failure) = core_dumps::forbid() {
        return failure::exit_code("broker", Err(failure));
    }
    runtime::tls::install_crypto_provider();
    let args = match failure::parse_args::<BrokerArgs>("broker") {
        Ok(args) => args,
        Err(exit_code) => return exit_code,
    };
    run(args).unwrap_or_else(|failure| failure::exit_code("broker", Err(failure)))
}

fn run(args: BrokerArgs) -> Result<ExitCode, Failure> {
    match args.command {
        Command::CheckConfig(args) => broker::check_config(&args).map(|()| ExitCode::SUCCESS),
        Command::Grants(GrantsCommand::Test(args)) => broker::grants_test(&args),
        Command::Audit {
            command: AuditCommand::Fingerprint(args),
        } => broker::audit::command::fingerprint(&args).map(|()| ExitCode::SUCCESS),
        Command::Run(args) => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::runtime("cannot start the async runtime").source(error))?;
            let result = runtime.block_on(broker::run(args));
            // A name that is being looked up for nobody would otherwise hold the end of the process.
            runtime.shutdown_background();
            result.map(|()| ExitCode::SUCCESS)
        }
    }
}
