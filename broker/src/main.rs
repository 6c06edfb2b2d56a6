//! The `broker` binary: parse, run, report.

use std::process::ExitCode;

use broker::args::{AuditCommand, BrokerArgs, Command};
use runtime::{Failure, failure};

fn main() -> ExitCode {
    runtime::tls::install_crypto_provider();
    let args = match failure::parse_args::<BrokerArgs>("broker") {
        Ok(args) => args,
        Err(exit_code) => return exit_code,
    };
    failure::exit_code("broker", run(args))
}

fn run(args: BrokerArgs) -> Result<(), Failure> {
    match args.command {
        Command::CheckConfig(args) => broker::check_config(&args),
        Command::Audit {
            command: AuditCommand::Fingerprint(args),
        } => broker::audit::command::fingerprint(&args),
        Command::Run(args) => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::runtime("cannot start the async runtime").source(error))?;
            let result = runtime.block_on(broker::run(args));
            // A name that is being looked up for nobody would otherwise hold the end of the process.
            runtime.shutdown_background();
            result
        }
    }
}
